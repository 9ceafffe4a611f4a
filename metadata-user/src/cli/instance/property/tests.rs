//! Tests of `cli::instance::property`.

use super::*;

const TEXT: &str = r#"{
    "uuid": "0171c6ae-ed6b-4787-bf6b-45a1db501aa3",
    "project_id": "demo",
    "launch_index": 3,
    "metadata": {
        "a.b": "1"
    },
    "user_data": "x",
    "ports": [
        {
            "id": "71d7b07f-b17f-4aea-bf5c-9a565fd3c8b2",
            "mac_address": "fa:16:3e:11:22:01"
        }
    ]
}
"#;

fn assigned(text: &str, words: &[&str]) -> Result<String, String> {
    let read = |path: &str| match path {
        "bytes" => Ok(vec![0, 0xff]),
        _ => Ok(format!("content of {path}\n").into_bytes()),
    };
    let assignments = words.iter().map(|word| Assignment::parse(word, read)).collect::<Result<Vec<_>, PropertyError>>();
    let done = assignments.and_then(|assignments| set(text.as_bytes(), &assignments));
    done.map(|bytes| String::from_utf8(bytes).expect("text")).map_err(|error| error.to_string())
}

fn taken(text: &str, words: &[&str]) -> Result<String, String> {
    let paths = words.iter().map(|word| Path::parse(word)).collect::<Result<Vec<_>, _>>();
    let done = paths.and_then(|paths| unset(text.as_bytes(), &paths));
    done.map(|bytes| String::from_utf8(bytes).expect("text")).map_err(|error| error.to_string())
}

/// Checks a change by what differs afterwards.
fn check(after: Result<String, String>, expected: &[&str], what: &[&str]) {
    let after = after.unwrap_or_else(|error| panic!("{what:?}: {error}"));
    let value = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    assert_eq!(differences(&value(TEXT), &value(&after)), expected, "{what:?}");
}

#[test]
fn values_are_what_the_schema_says() {
    for (words, expected) in [
        (&["hostname=web1"][..], &["hostname: nothing -> \"web1\""][..]),
        (&["project_id=5"], &["project_id: \"demo\" -> \"5\""]),
        (&["hostname=null"], &["hostname: nothing -> \"null\""]),
        (&["display_name:=null"], &["display_name: nothing -> null"]),
        (&["hostname:=\"@x\""], &["hostname: nothing -> \"@x\""]),
        (&["launch_index=4"], &["launch_index: 3 -> 4"]),
        (&["launch_index=null"], &["launch_index: 3 -> null"]),
        (&["hostname="], &["hostname: nothing -> \"\""]),
        (&["hostname=a=b"], &["hostname: nothing -> \"a=b\""]),
        (&["metadata.role=db"], &["metadata.role: nothing -> \"db\""]),
        (&["metadata.a.b=true"], &["metadata.a.b: \"1\" -> \"true\""]),
        (&["metadata.x[0].y=1"], &["metadata.x[0].y: nothing -> \"1\""]),
        (&["metadata={\"c\": \"d\"}"], &["metadata.a.b: \"1\" -> nothing", "metadata.c: nothing -> \"d\""]),
        (&["ports.0.tap=tap7"], &["ports.0.tap: nothing -> \"tap7\""]),
        (&["ports[0].tap=tap7"], &["ports.0.tap: nothing -> \"tap7\""]),
        (&["ports.0.port_security=false"], &["ports.0.port_security: nothing -> false"]),
        (
            &["ports.0.fixed_ips[0].ip_address=10.0.0.1"],
            &["ports.0.fixed_ips: nothing -> [{\"ip_address\":\"10.0.0.1\"}]"],
        ),
        (
            &["ports.0.network.subnets.0.gateway_ip=10.0.0.1"],
            &["ports.0.network: nothing -> {\"subnets\":[{\"gateway_ip\":\"10.0.0.1\"}]}"],
        ),
        (&["ports.1={\"id\": \"x\"}"], &["ports.1: nothing -> {\"id\":\"x\"}"]),
        (&["keypairs.0.type=ssh"], &["keypairs: nothing -> [{\"type\":\"ssh\"}]"]),
        (
            &["block_device_mapping.0.destination_type=local"],
            &["block_device_mapping: nothing -> [{\"destination_type\":\"local\"}]"],
        ),
        (&["security_groups.0=web"], &["security_groups: nothing -> [\"web\"]"]),
        (&["dedicated_cpus=[1, 2]"], &["dedicated_cpus: nothing -> [1,2]"]),
        (&["user_data=@f"], &["user_data: \"x\" -> \"content of f\\n\""]),
        (&["user_data_b64=@bytes"], &["user_data: \"x\" -> nothing", "user_data_b64: nothing -> \"AP8=\""]),
        (&["hostname=a", "hostname=b"], &["hostname: nothing -> \"b\""]),
    ] {
        check(assigned(TEXT, words), expected, words);
    }
}

#[test]
fn properties_are_taken_away() {
    for (words, expected) in [
        (&["launch_index"][..], &["launch_index: 3 -> nothing"][..]),
        (&["metadata.a.b"], &["metadata.a.b: \"1\" -> nothing"]),
        (&["hostname", "metadata.nothing", "ports.7"], &[]),
        (
            &["launch_index", "ports.0"],
            &[
                "launch_index: 3 -> nothing",
                "ports.0: {\"id\":\"71d7b07f-b17f-4aea-bf5c-9a565fd3c8b2\",\"mac_address\":\"… (79 bytes) -> nothing",
            ],
        ),
    ] {
        check(taken(TEXT, words), expected, words);
    }
    let list = "{\"dedicated_cpus\":[0,1,2,3]}";
    assert_eq!(taken(list, &["dedicated_cpus.0", "dedicated_cpus.2"]), Ok("{\"dedicated_cpus\":[1,3]}".to_owned()));
}

#[test]
fn the_form_of_a_text_stays() {
    for (before, after) in [
        ("{\"a\":1.50,\"hostname\":\"x\",\"b\":1.0}", "{\"a\":1.50,\"hostname\":\"y\",\"b\":1.0}"),
        ("{\n\t\"b\": 1,\n\t\"hostname\": \"x\"\n}\n", "{\n\t\"b\": 1,\n\t\"hostname\": \"y\"\n}\n"),
        ("{\n  \"hostname\": \"x\",\n  \"z\": []\n}", "{\n  \"hostname\": \"y\",\n  \"z\": []\n}"),
    ] {
        assert_eq!(assigned(before, &["hostname=y"]).as_deref(), Ok(after));
    }
    let odd = "{ \"hostname\" : \"x\" }\n\n";
    assert_eq!(assigned(odd, &["hostname=x"]).as_deref(), Ok(odd), "nothing changed, not even blanks");
    assert_eq!(taken(odd, &["flavor"]).as_deref(), Ok(odd));
}

#[test]
fn refusals_name_the_property_and_the_remedy() {
    for (text, word, expected) in [
        (TEXT, "hostnam=x", "a document has no property hostnam; `metadatad schema`"),
        (TEXT, "ports.0.nonsense=x", "no property ports.0.nonsense"),
        (TEXT, "=x", "no property "),
        (TEXT, "metadata.=x", "no property metadata."),
        (TEXT, "ports.first.tap=x", "write its number from 0, like ports.0"),
        (TEXT, "hostname.x=y", "hostname has no properties below it"),
        (TEXT, "hostname", "`hostname` has no value; write key=text"),
        (TEXT, "launch_index=three", "launch_index is neither text in the schema nor JSON: expected"),
        (TEXT, "hostname:=x", "the value of hostname is neither"),
        (TEXT, "user_data=@bytes", "not text; give it to user_data_b64"),
        (TEXT, "uuid=1", "the uuid names the document"),
        (TEXT, "ports.2={}", "ports.2 is beyond the end of the list, which has 1 elements; the next one is number 1"),
        ("{\"a\": 1, \"a\": 2}", "hostname=x", "the key \"a\" occurs twice"),
        ("[]", "hostname=x", "it is not a JSON object"),
        ("{\"ports\": 1}", "ports.0.tap=x", "leads through a value without parts"),
        ("{", "hostname=x", "EOF while parsing"),
    ] {
        let error = assigned(text, &[word]).expect_err(word);
        assert!(error.contains(expected), "{word}: {error}");
    }
    assert!(taken(TEXT, &["uuid"]).expect_err("the name").contains("uuid"));
}

#[test]
fn a_tap_has_one_value_under_two_names() {
    let named =
        |name: &str| TEXT.replace("\"mac_address\"", &format!("\"{name}\": \"old\",\n            \"mac_address\""));
    for (stored, asked) in [("tap", "tap"), ("tap", "devname"), ("devname", "tap"), ("devname", "devname")] {
        let text = named(stored);
        let path = format!("ports.0.{asked}");
        let value = read(text.as_bytes()).unwrap();
        assert_eq!(Path::parse(&path).unwrap().look(&value), Some(&Value::from("old")), "{stored}, {asked}");
        let after = assigned(&text, &[&format!("{path}=new")]).unwrap();
        assert!(after.contains(&format!("\"{asked}\": \"new\"")) && !after.contains("old"), "{after}");
        assert!(!taken(&text, &[&path]).unwrap().contains("old"), "{stored}, {asked}");
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_document() {
    let marked = format!("\u{feff}{TEXT}");
    assert_eq!(assigned(&marked, &["launch_index=3"]).as_deref(), Ok(&*marked), "nothing changed");
    assert_eq!(assigned(&marked, &["launch_index=4"]), assigned(TEXT, &["launch_index=4"]));
    assert_eq!(assigned("\u{feff}{}", &["flavor=a"]).as_deref(), Ok("{\"flavor\":\"a\"}"));
}
