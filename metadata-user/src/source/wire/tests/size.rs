//! Documents of every bad shape are read in steps proportional to their size, and refused in few words.

use super::*;

/// Returns a document of some shape, about as long as asked for.
type Shape = fn(usize) -> String;

fn port(fields: &str) -> String {
    SHORT.replace("\"mac_address\"", &format!("{fields}, \"mac_address\""))
}

fn many(count: usize, one: impl Fn(usize) -> String) -> String {
    (0..count).map(one).collect::<Vec<_>>().join(",")
}

/// Names, and what a document of this shape looks like.
const SHAPES: [(&str, Shape); 22] = [
    ("brackets", |size| "[".repeat(size)),
    ("brackets with a blank in front", |size| format!(" {}", "[".repeat(size))),
    ("closed brackets", |size| "[".repeat(size / 2) + &"]".repeat(size / 2)),
    ("a list of numbers", |size| format!("[{}]", many(size / 2, |_| "1".to_owned()))),
    ("objects in objects", |size| "{\"a\":".repeat(size / 5)),
    ("braces", |size| "{".repeat(size)),
    ("brackets in a field", |size| with(&format!("\"metadata\": {}", "[".repeat(size)))),
    ("objects in a field", |size| with(&format!("\"metadata\": {}", "{\"a\":".repeat(size / 5)))),
    ("brackets in $schema", |size| with(&format!("\"$schema\": {}", "[".repeat(size)))),
    ("many keys of metadata", |size| {
        with(&format!("\"metadata\": {{{}}}", many(size / 16, |n| format!("\"{n:08}\":\"\""))))
    }),
    ("many keys of metadata, and one twice", |size| {
        with(&format!("\"metadata\": {{{}, \"00000001\":\"\"}}", many(size / 16, |n| format!("\"{n:08}\":\"\""))))
    }),
    ("a long key", |size| with(&format!("\"{}\": 1", "k".repeat(size)))),
    ("a long text where a number belongs", |size| with(&format!("\"launch_index\": \"{}\"", "9".repeat(size)))),
    ("a long number", |size| with(&format!("\"launch_index\": {}", "9".repeat(size)))),
    ("a long host name", |size| with(&format!("\"hostname\": \"{}\"", "a".repeat(size)))),
    ("a long text that is no MAC address", |size| SHORT.replace("fa:16", &"a".repeat(size))),
    ("escapes", |size| with(&format!("\"nonsense\": \"{}\"", "\\n".repeat(size / 2)))),
    ("many lines", |size| with(&format!("{} \"nonsense\": 1", "\n".repeat(size)))),
    ("many ports, and one twice", |size| {
        let port = |n: usize| {
            format!("{{\"id\":\"00000000-0000-4000-8000-{:012}\",\"mac_address\":\"fa:16:3e:11:22:01\"}}", n / 2 * 2)
        };
        format!(
            "{{\"uuid\":\"0171c6ae-ed6b-4787-bf6b-45a1db501aa3\",\"project_id\":\"d\",\"ports\":[{}]}}",
            many(size / 88, port)
        )
    }),
    ("many subnets, and addresses by id", |size| {
        let subnets = many(size / 60, |n| format!("{{\"id\":\"{n}\",\"cidr\":\"10.0.0.0/24\"}}"));
        let ips = many(size / 60, |n| format!("{{\"ip_address\":\"10.0.0.1\",\"subnet_id\":\"{n}\"}}"));
        port(&format!("\"fixed_ips\": [{ips}], \"network\": {{\"subnets\": [{subnets}]}}"))
    }),
    ("many subnets, and addresses in the last one", |size| {
        let subnet = |n: usize| format!("{{\"cidr\":\"10.{}.{}.0/{}\"}}", n % 200, n / 200 % 250, 16 + n % 9);
        let ips = many(size / 60, |_| "{\"ip_address\":\"11.0.0.1\"}".to_owned());
        let subnets = many(size / 60, subnet);
        port(&format!("\"fixed_ips\": [{ips}], \"network\": {{\"subnets\": [{subnets}, {{\"cidr\":\"11.0.0.0/8\"}}]}}"))
    }),
    ("many devices, and a bad one at the end", |size| {
        let devices = many(size / 16, |_| "{\"type\":\"disk\"}".to_owned());
        with(&format!("\"device_metadata\": [{devices}, {{\"type\":\"nic\"}}]"))
    }),
];

/// The most steps for a byte: an address is looked up once for each prefix length.
const STEPS_PER_BYTE: usize = 4;

#[test]
fn any_document_is_read_in_steps_proportional_to_its_size() {
    for (name, shape) in SHAPES {
        for size in [10_000, 1_000_000] {
            let document = shape(size);
            let mut outcome = None;
            let steps = work::of(|| outcome = Some(parse(document.as_bytes())));
            let length = document.len();
            assert!(steps <= STEPS_PER_BYTE * length + 1000, "{name}: {steps} steps for {length} bytes");
            if let Some(Err(error)) = outcome {
                let message = error.to_string();
                assert!(message.len() < 5000, "{name}: a message of {} bytes", message.len());
                assert!(!message.contains(char::is_control), "{name}: more than one line");
            }
        }
    }
}

#[test]
fn deep_documents_are_refused_with_the_limit() {
    // Nothing in a document is nested this deeply, so most shapes end at the first unexpected bracket.
    let deep = format!("{{\"ports\": [{}", "{\"network\": ".repeat(50_000));
    let error = parse(deep.as_bytes()).unwrap_err();
    assert_eq!(error.path, "ports[0].network.network");
    let lists = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    assert_eq!(parse(lists.as_bytes()).unwrap_err().problem, "this is a list");
}

#[test]
fn a_document_over_the_limit_is_refused_before_it_is_read() {
    let document = with(&format!("\"user_data\": \"{}\"", "a".repeat(MAX_DOCUMENT)));
    let mut error = None;
    assert_eq!(work::of(|| error = parse(document.as_bytes()).err()), 0);
    let expected = "line 1, column 1, at document: it is larger than 16 MiB; make its user data smaller";
    assert_eq!(error.unwrap().to_string(), expected);
}

#[test]
fn a_record_that_is_written_larger_than_any_document_is_read_back() {
    let document = with(&format!("\"user_data\": \"{}\"", "\\n".repeat(MAX_DOCUMENT / 2 - 500)));
    let record = read(&document);
    let mut written = Vec::new();
    write(&record, &mut written).unwrap();
    assert!(written.len() > MAX_DOCUMENT);
    assert!(read_back(&written).unwrap() == record);
}

#[test]
fn a_record_with_many_subnets_is_written_and_read_back() {
    let (_, shape) = SHAPES.into_iter().find(|(name, _)| *name == "many subnets, and addresses by id").unwrap();
    let record = read(&shape(1_000_000));
    let mut written = Vec::new();
    write(&record, &mut written).unwrap();
    assert_eq!(parse(&written).unwrap(), record);
}
