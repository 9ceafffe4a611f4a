//! The verbs as they are typed, on a directory.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;

use crate::cli::{self, exit};

const A: &str = "0171c6ae-ed6b-4787-bf6b-45a1db501aa3";
const B: &str = "0171c6ae-ed6b-4787-bf6b-45a1db501bbb";

struct World {
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { directory: tempfile::tempdir().expect("a directory") };
        fs::create_dir(world.path("instances")).expect("a directory");
        let config = format!("[source]\npath = {:?}\n", world.path("instances"));
        fs::write(world.path("m.toml"), config).expect("a file");
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file beside the directory and returns its path.
    fn file(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).expect("a file");
        self.path(name).display().to_string()
    }

    /// Runs `metadatad instance WORDS`; returns exit status, output and error.
    fn run(&self, words: &[&str]) -> (u8, String, String) {
        let words = ["metadatad", "instance"].iter().chain(words).map(OsString::from);
        let words = words.chain([OsString::from("--config"), self.path("m.toml").into()]);
        let mut out = Vec::new();
        let (code, error) = match cli::execute(words, &mut out, &mut io::sink()) {
            Ok(code) => (code, String::new()),
            Err(error) => (error.exit(), error.message()),
        };
        (code, String::from_utf8(out).expect("text"), error)
    }

    fn check(&self, steps: &[(&[&str], u8, &str)]) {
        for (words, code, expected) in steps {
            let (found, out, error) = self.run(words);
            assert_eq!(found, *code, "{words:?}: {out}{error}");
            assert!(format!("{out}{error}").contains(expected), "{words:?}: {out}{error}");
            assert!(!error.contains('\n'), "{error:?}");
        }
    }
}

fn document(uuid: &str, name: &str) -> String {
    format!(
        "{{\n  \"uuid\": \"{uuid}\",\n  \"project_id\": \"demo\",\n  \"display_name\": \"{name}\",\n  \"ports\": [\n    {{\n      \
         \"id\": \"71d7b07f-b17f-4aea-bf5c-9a565fd3c8b2\",\n      \"mac_address\": \"fa:16:3e:11:22:01\"\n    }}\n  ]\n}}\n"
    )
}

#[test]
fn a_document_is_kept_from_first_to_last() {
    let world = World::new();
    let a = world.file("a.json", &document(A, "a"));
    let b = world.file("b.json", &document(B, "b"));
    let changed = world.file("c.json", &document(A, "c"));
    let cloud = world.file("cloud.yaml", "#cloud-config\n");
    world.check(&[
        (&["list"], exit::OK, "UUID  PROJECT  NAME  TAPS  FILE  STATE\n"),
        (&["apply", &a, "--dry-run"], exit::OK, "aa3: would be created\n"),
        (&["get", A], exit::ABSENT, "there is no instance 0171c6ae"),
        (&["apply", &a, &b], exit::OK, "aa3: created\n0171c6ae-ed6b-4787-bf6b-45a1db501bbb: created\n"),
        (&["apply", &a], exit::OK, "aa3: unchanged\n"),
        (&["apply", &changed, "--dry-run"], exit::OK, "would be changed\n  display_name: \"a\" -> \"c\"\n"),
        (&["apply", &changed], exit::OK, "aa3: changed\n"),
        (&["get", A], exit::OK, &document(A, "c")),
        (&["get", A, "--property", "display_name"], exit::OK, "c\n"),
        (&["get", A, "--property", "ports.0"], exit::OK, "\"mac_address\": \"fa:16:3e:11:22:01\"\n}\n"),
        (&["get", A, "--property", "flavor"], exit::ABSENT, "has no property flavor"),
        (&["get", A, "--property", "flavour"], exit::USAGE, "no property flavour; `metadatad schema`"),
        (&["list"], exit::OK, "aa3  demo     c     tap71d7b07f-b1  0171c6ae-ed6b-4787-bf6b-45a1db501aa3.json  ok\n"),
        (&["list", "--json"], exit::OK, "\"name\": \"c\""),
        (&["set", A, "--property", "hostname=web1", "--property", "metadata.role=db"], exit::OK, "aa3: changed\n"),
        (&["set", A, "--property", "hostname=web1"], exit::OK, "aa3: unchanged\n"),
        (&["set", A, "--property", &format!("user_data=@{cloud}"), "--dry-run"], exit::OK, "-> \"#cloud-config\\n\"\n"),
        (&["get", A, "--property", "user_data"], exit::ABSENT, "no property user_data"),
        (&["unset", A, "--property", "metadata.role"], exit::OK, "aa3: changed\n"),
        (&["get", A, "--property", "metadata"], exit::OK, "{}\n"),
        (&["delete", A, A, B], exit::ABSENT, "bbb: deleted\nthere is no instance"),
        (&["delete", A, "--if-exists"], exit::OK, "aa3: not found\n"),
    ]);
}

#[test]
fn nothing_is_written_that_cannot_be_used() {
    let world = World::new();
    let good = world.file("good.json", &document(A, "a"));
    let bad = world.file("bad.json", &document(B, "b").replace("fa:16", "fa-16"));
    let again = world.file("again.json", &document(A, "again"));
    fs::create_dir(world.path("empty")).expect("a directory");
    let empty = world.path("empty").display().to_string();
    world.check(&[
        (&["apply", &good, &bad], exit::BAD_DOCUMENT, "bad.json: line 8, column 40, at ports[0].mac_address"),
        (&["apply", &good, &again], exit::BAD_DOCUMENT, "good.json and "),
        (&["apply", &empty], exit::USAGE, "no documents in"),
        (&["apply", "/nonexistent.json"], exit::ABSENT, "/nonexistent.json (correct the path)"),
        (&["get", A], exit::ABSENT, "there is no instance"),
        (&["validate", &good, &bad], exit::BAD_DOCUMENT, "good.json: instance 0171c6ae"),
        (&["validate", &good], exit::OK, ": good\n"),
        (&["apply", &good], exit::OK, "created"),
        (&["set", A, "--property", "hostname="], exit::BAD_DOCUMENT, "nothing is written: line"),
        (&["unset", A, "--property", "ports.0"], exit::BAD_DOCUMENT, "nothing is written: line"),
        (&["set", A, "--property", "uuid=1"], exit::USAGE, "the uuid names the document"),
        (&["set", B, "--property", "hostname=x"], exit::ABSENT, "no instance 0171c6ae"),
        (&["set", A], exit::USAGE, ""),
        (&["get", "0171"], exit::USAGE, ""),
        (&["get", A], exit::OK, &document(A, "a")),
        (&["list", "--node", "n1"], exit::USAGE, "--node goes with `source.kind = \"etcd\"` only"),
        (&["list", "--all-nodes"], exit::USAGE, "--all-nodes goes with"),
        (&["apply", &good, "--if-revision", "0"], exit::USAGE, "--if-revision goes with"),
    ]);
}

#[test]
fn what_the_daemon_cannot_read_is_not_applied() {
    let world = World::new();
    let stored = |name: &str, bytes: &[u8]| {
        fs::write(world.path(name), bytes).expect("a file");
        world.path(name).display().to_string()
    };
    let text = document(A, "a");
    let marked = stored("marked.json", format!("\u{feff}{text}").as_bytes());
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let wide = stored("wide.json", &wide);
    let large = stored("large.json", document(A, &"a".repeat(crate::source::wire::MAX_DOCUMENT)).as_bytes());
    world.check(&[
        (&["validate", &marked], exit::OK, ": good\n"),
        (&["apply", &marked], exit::OK, "aa3: created\n"),
        (&["get", A, "--property", "display_name"], exit::OK, "a\n"),
        (&["set", A, "--property", "ports.0.tap=tap7"], exit::OK, "aa3: changed\n"),
        (&["get", A, "--property", "ports.0.devname"], exit::OK, "tap7\n"),
        (&["list"], exit::OK, "tap7"),
        (&["validate", &wide], exit::BAD_DOCUMENT, "it is UTF-16; save it as UTF-8"),
        (&["apply", &wide], exit::BAD_DOCUMENT, "it is UTF-16; save it as UTF-8"),
        (&["apply", &large], exit::BAD_DOCUMENT, "it is larger than 16 MiB; make its user data smaller"),
    ]);
}

#[test]
fn a_broken_document_is_shown_and_can_be_repaired() {
    let world = World::new();
    let stored = |name: &str, text: &str| fs::write(world.path("instances").join(name), text).expect("a file");
    let good = world.file("good.json", &document(B, "b"));
    stored("a.json", &document(A, "a").replace("fa:16", "fa-16"));
    stored(&format!("{B}.json"), "{ torn");
    world.check(&[
        (&["list"], exit::OK, "aa3  -        -     -     a.json"),
        (&["list"], exit::OK, "broken: line 8, column 40, at ports[0].mac_address"),
        (&["list", "--json"], exit::OK, "\"problem\": \"line 1, column 3"),
        (&["set", A, "--property", "ports.0.mac_address=fa:16:3e:00:00:01"], exit::OK, "aa3: changed"),
        (&["get", B], exit::OK, "{ torn"),
        (&["set", B, "--property", "hostname=x"], exit::BAD_DOCUMENT, "replace it with `metadatad instance apply`"),
        (&["apply", &good], exit::OK, "bbb: changed"),
    ]);
    stored("twice.json", &document(B, "twice"));
    world.check(&[
        (&["list"], exit::OK, "bbb.json describes this instance too; remove one of the two"),
        (&["get", B], exit::BAD_DOCUMENT, "twice.json; remove one of the two"),
    ]);
}

#[test]
fn nova_is_changed_elsewhere() {
    let text = "[source]\nkind = 'nova'\n[source.nova]\nendpoints = ['http://x:8775']\nshared_secret_file = '/x'\n";
    let config = crate::config::Config::parse(std::path::Path::new("m.toml"), text).expect("accepted");
    let error = super::Documents::open(&config.source, None).expect_err("not here");
    assert!(error.to_string().contains("openstack server set"), "{error}");
}
