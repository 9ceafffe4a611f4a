//! Tests of `cli`.

use std::fs;
use std::path::Path;

use super::*;
use crate::admin::server::tests::serve;

const UUID: &str = "11111111-0000-0000-0000-000000000001";

/// Runs `metadatad ARGUMENTS --config CONFIG`; returns exit status, output and error.
fn run(config: &Path, arguments: &[&str]) -> (u8, String, String) {
    let arguments = ["metadatad"].iter().chain(arguments).map(OsString::from);
    let arguments = arguments.chain([OsString::from("--config"), config.into()]);
    let mut out = Vec::new();
    let (code, error) = match execute(arguments, &mut out, &mut io::sink()) {
        Ok(code) => (code, String::new()),
        Err(error) => (error.exit(), error.message()),
    };
    (code, String::from_utf8(out).expect("text"), error)
}

fn config(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("metadatad.toml");
    fs::write(&path, text).expect("a file");
    path
}

#[test]
fn the_command_line_is_consistent() {
    super::command().debug_assert();
}

#[test]
fn check_config_warns_of_targets_that_are_not_asked() {
    let directory = tempfile::tempdir().expect("a directory");
    let targets = "[cloud]\nvendordata_dynamic_targets = ['nameless', 'a@https://x']\n";
    let path = config(directory.path(), &format!("{targets}[source]\npath = {:?}\n", directory.path()));
    let (code, output, error) = run(&path, &["check-config"]);
    assert_eq!((code, error.as_str()), (exit::OK, ""));
    let lines: Vec<_> = output.lines().collect();
    assert!(lines[0].contains("warning: ") && lines[0].contains("`nameless` is skipped"), "{output}");
    assert!(lines[1].contains("warning: ") && lines[1].contains("add \"DynamicJSON\""), "{output}");
    // Where this process may open few files, that is warned of too.
    assert!(lines.last().is_some_and(|line| line.ends_with(": accepted")), "{output}");
}

#[test]
fn check_config_warns_of_a_missing_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = config(directory.path(), "[source]\npath = '/nonexistent/instances'\n");
    let (code, output, _) = run(&path, &["check-config"]);
    assert_eq!(code, exit::OK);
    assert!(
        output.contains("warning: source.path: there is no directory /nonexistent/instances yet: create it"),
        "{output}"
    );
    assert!(output.ends_with(": accepted\n"), "{output}");
}

#[test]
fn exit_statuses_say_what_kind_of_thing_is_wrong() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("nobody.sock");
    let vendor = directory.path().join("vendor.json");
    fs::write(&vendor, "{").expect("a file");
    let good = format!("[admin]\nsocket = {socket:?}\n");
    for (text, arguments, code, output) in [
        (good.as_str(), &["check-config"][..], exit::OK, ""),
        (&good, &["--version"], exit::OK, ""),
        (&good, &["--help"], exit::OK, ""),
        (&good, &["schema"], exit::OK, ""),
        (&good, &["nonsense"], exit::USAGE, ""),
        (&good, &[], exit::USAGE, ""),
        (&good, &["trace"], exit::USAGE, ""),
        (&good, &["status"], exit::UNAVAILABLE, "nobody.sock; start it"),
        (&good, &["counters", "tap1"], exit::UNAVAILABLE, "nobody.sock; start it"),
        ("[ports]\nunbound = 1\n", &["check-config"], exit::CONFIG, "metadatad.toml:2:11"),
        ("[ports]\nunbound = 1\n", &["run"], exit::CONFIG, "metadatad.toml:2:11"),
        (
            &format!("[cloud]\nvendordata_jsonfile_path = {vendor:?}\n"),
            &["check-config"],
            exit::CONFIG,
            "vendor.json is not JSON",
        ),
        (
            "[cloud]\nvendordata_providers = ['DynamicJSON']\nvendordata_dynamic_targets = ['a@https://x']\n\
             vendordata_dynamic_ssl_certfile = '/nonexistent/ca.pem'\n",
            &["check-config"],
            exit::CONFIG,
            "/nonexistent/ca.pem",
        ),
        (
            "[cloud]\nvendordata_providers = ['DynamicJSON']\nvendordata_dynamic_targets = ['a@https://x']\n\
             vendordata_dynamic_client_certfile = '/nonexistent/c.pem'\n\
             vendordata_dynamic_client_keyfile = '/nonexistent/c.key'\n",
            &["check-config"],
            exit::CONFIG,
            "/nonexistent/c.",
        ),
        (
            "[cloud]\nvendordata_jsonfile_path = '/nonexistent/v.json'\n",
            &["check-config"],
            exit::CONFIG,
            "/nonexistent/v.json: correct the path",
        ),
        (
            "[source]\nkind = 'nova'\n[source.nova]\nendpoints = ['http://x:8775']\n\
             shared_secret_file = '/nonexistent/secret'\n",
            &["check-config"],
            exit::CONFIG,
            "/nonexistent/secret: correct its path",
        ),
    ] {
        let (found, _, error) = run(&config(directory.path(), text), arguments);
        assert_eq!(found, code, "{arguments:?}: {error}");
        assert!(error.contains(output), "{arguments:?}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let (code, _, error) = run(&directory.path().join("none.toml"), &["check-config"]);
    assert_eq!(code, exit::CONFIG, "{error}");
    assert!(error.contains("none.toml"), "{error}");
}

#[test]
fn verbs_print_what_the_daemon_says() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let (directory, socket) = runtime.block_on(async { serve() });
    let config = config(directory.path(), &format!("[admin]\nsocket = {socket:?}\n"));
    for (arguments, code, output) in [
        (&["status"][..], exit::OK, "state        ready\n"),
        (&["status", "--json"], exit::OK, "\"ready\": true"),
        (&["status", "--check"], exit::NOT_WELL, "b.json: line 3, column 9"),
        (
            &["ports"],
            exit::OK,
            "TAP   INDEX  STATE  INSTANCE                              PORT  ORIGIN   MAC                ATTACHED  REASON\n\
             tap1  5      bound  11111111-0000-0000-0000-000000000001  -     libvirt  fa:16:3e:00:00:01  tcx       -\n",
        ),
        (&["ports", "--json"], exit::OK, "\"state\": \"bound\""),
        (&["ports", "--json"], exit::OK, "\"tap\": \"tap1\",\n    \"name\": \"tap1\""),
        (&["counters", "--json"], exit::OK, "\"tap\": \"tap1\",\n    \"name\": \"tap1\""),
        (&["counters"], exit::OK, "TAP   COUNTER   PACKETS\ntap1  to_guest  7\n"),
        (&["counters", "tap1", "--all"], exit::OK, "tap1  spoofed_ip  0\n"),
        (&["counters", "--json"], exit::OK, "\"to_guest\": 7"),
        (&["trace", "tap1"], exit::OK, "first\nsecond\n"),
        (&["get", "a", "/secret", "--head"], exit::OK, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"),
        (&["get", "a", "/none", "-I"], exit::NOT_WELL, "HTTP/1.1 404 Not Found\r\n"),
        (&["wait", UUID], exit::OK, ""),
        (&["detach"], exit::OK, "released 2 taps: guests' requests go on to the network\n"),
        (&["detach", "--json"], exit::OK, "\"taps\": 2"),
        (&["wait", UUID, "--json"], exit::OK, "\"ready\": true"),
    ] {
        let (found, out, error) = run(&config, arguments);
        assert_eq!(found, code, "{arguments:?}: {error}");
        assert!(out.contains(output), "{arguments:?}: {out}");
    }
    let (code, _, error) = run(&config, &["get", "a", "/secret"]);
    assert!(code == exit::USAGE && error.contains("--secrets"), "{error}");
    let (code, _, error) = run(&config, &["wait", UUID, "--port", "tap7", "--timeout", "1s"]);
    assert!(code == exit::TIMED_OUT && error.contains("after 1s: no tap7"), "{error}");
    assert_eq!(run(&config, &["get", "b", "/x"]).0, exit::ABSENT);
    for arguments in [&["counters", "tap9"], &["trace", "tap9"]] {
        let (code, _, error) = run(&config, arguments);
        assert_eq!(code, exit::ABSENT, "{error}");
        assert!(error.contains("tap9"), "{error}");
    }
}

#[test]
fn commands_that_need_the_socket_work_while_the_configuration_is_broken() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let (directory, socket) = runtime.block_on(async { serve() });
    let admin = format!("[admin]\nsocket = {socket:?}\n");
    let run = |text: &str, arguments: &[&str]| {
        let path = config(directory.path(), text);
        let arguments = ["metadatad"].iter().chain(arguments).map(OsString::from);
        let arguments = arguments.chain([OsString::from("--config"), path.into()]);
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let code = execute(arguments, &mut out, &mut notes).unwrap_or_else(|error| error.exit());
        (code, String::from_utf8(notes).expect("text"))
    };
    let (code, notes) = run(&admin, &["status"]);
    assert_eq!((code, notes.as_str()), (exit::OK, ""));
    for text in [
        format!("{admin}[ports]\nunbound = 1\n"),
        format!("{admin}timeout = 1\n"),
        format!("[http\nthreads = 2\n{admin}"),
        format!("{admin}[log]\nfilter = 'info\n"),
    ] {
        for arguments in [&["status"][..], &["ports"], &["counters"], &["trace", "tap1"], &["source"]] {
            let (code, notes) = run(&text, arguments);
            assert_eq!(code, exit::OK, "{text} {arguments:?}: {notes}");
            assert!(notes.contains("metadatad.toml:") && notes.contains(&*socket.to_string_lossy()), "{notes}");
            assert_eq!(notes.lines().count(), 1, "{notes}");
        }
        // The daemon is asked there too, before anything is removed.
        assert_eq!(run(&text, &["detach"]).0, exit::OK, "{text}");
    }
    let socket = socket.to_str().expect("text");
    assert_eq!(run("[admin]\nsocket = 1", &["status", "--socket", socket]), (exit::OK, String::new()));
    // What is not certain is not detached.
    assert_eq!(run("[admin]\nsocket = 1", &["detach"]).0, exit::CONFIG);
    assert_eq!(run("[bpf]\npin_dir = 'x'", &["detach", "--socket", socket]).0, exit::CONFIG);
    assert_eq!(run("", &["run", "--socket", socket]).0, exit::USAGE);
}

#[test]
fn commands_on_documents_need_the_source_only() {
    let directory = tempfile::tempdir().expect("a directory");
    let source = format!("[source]\npath = {:?}\n", directory.path());
    for (text, expected) in [
        (format!("{source}[ports]\nunbound = 1\n"), exit::OK),
        (format!("{source}kind = 'consul'\n"), exit::CONFIG),
        (format!("{source}[ports\n"), exit::CONFIG),
    ] {
        let (code, _, error) = run(&config(directory.path(), &text), &["instance", "list"]);
        assert_eq!(code, expected, "{text}: {error}");
    }
}

#[test]
fn a_config_drive_is_written_of_a_document_and_refusals_say_why() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let (directory, socket) = runtime.block_on(async { serve() });
    let config = config(directory.path(), &format!("[admin]\nsocket = {socket:?}\n"));
    let place = |name: &str| directory.path().join(name).display().to_string();
    let document = |name: &str, further: &str| {
        let port =
            r#"{"id": "00000001-0000-4000-8000-000000000001", "mac_address": "fa:16:3e:00:00:01", "fixed_ips": []}"#;
        let text = format!(
            r#"{{"uuid": "{UUID}", "project_id": "p", "user_data": "the-user-data", "ports": [{port}]{further}}}"#
        );
        fs::write(place(name), text).expect("a file");
        place(name)
    };
    let drive = |arguments: &[&str]| {
        let (code, out, error) = run(&config, &[&["config-drive"], arguments].concat());
        assert_eq!(out, "", "{arguments:?}");
        (code, error)
    };
    let (good, off) = (document("good", ""), document("off", ", \"policy\": {\"metadata\": false}"));
    for (format, size, label) in [("iso9660", 1 << 16, 16 * 2048 + 40), ("vfat", 4_000_000, 43)] {
        let image = place(format);
        for _ in 0..2 {
            assert_eq!(drive(&["--document", &good, "--format", format, "-o", &image]), (exit::OK, String::new()));
        }
        let bytes = fs::read(&image).expect("an image");
        assert!(bytes.len() >= size && bytes[label..].starts_with(b"config-2"), "{format}: {} bytes", bytes.len());
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&image).expect("an image").permissions());
        assert_eq!(mode & 0o7777, 0o600);
    }
    let whole = place("directory");
    assert_eq!(drive(&["--document", &good, "--format", "directory", "-o", &whole]).0, exit::OK);
    assert_eq!(fs::read(Path::new(&whole).join("openstack/latest/user_data")).expect("a file"), b"the-user-data");
    let image = place("none");
    for (arguments, code, part) in [
        (&["--document", &good, "--format", "directory", "-o", &whole][..], exit::USAGE, "name another directory"),
        (&["--document", &off, "-o", &image], exit::BAD_DOCUMENT, "switches metadata off"),
        (&["--document", &config.display().to_string(), "-o", &image], exit::BAD_DOCUMENT, "line 1"),
        (&["nobody", "-o", &image], exit::ABSENT, "nobody"),
        (&["-o", &image], exit::USAGE, ""),
        (&["web", "--document", &good, "-o", &image], exit::USAGE, ""),
        (&["web"], exit::USAGE, ""),
        (&["web", "-o", &image, "--socket", "/nonexistent/socket"], exit::UNAVAILABLE, "/nonexistent/socket"),
        (&["--document", &good, "-o", "/nonexistent/image"], exit::INTERNAL, "/nonexistent/image"),
    ] {
        let (found, error) = drive(arguments);
        assert_eq!(found, code, "{arguments:?}: {error}");
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
    assert!(!Path::new(&image).exists());
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let error = print_json(&1, &mut Gone).expect_err("nobody reads");
    assert!(matches!(&error, CliError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe), "{error:?}");
}
