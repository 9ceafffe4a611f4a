//! The Debian package on a real systemd: installed, started, upgraded, downgraded, removed and purged, in one machine, of which
//! each test judges a part. Then the Ansible role does the same with it ([`role`]).
//!
//! The machine is the compute node; its guest is a network namespace behind a veth pair named like a tap. The package holds
//! the daemon that the other tests have, without optimisations, and is less compressed than a release's.

mod node;
mod role;

use node::{STEPS, step};

#[test]
fn installing_starts_nothing_and_makes_user_and_directory() {
    step("installed", |text| {
        assert!(text.contains("active inactive\n"), "{text}");
        assert!(text.contains("enabled disabled\n"), "{text}");
        assert!(text.contains("instances 750 root root\n"), "{text}");
        assert!(text.contains("user metadatad group metadatad\n"), "{text}");
        assert!(text.contains("configuration 644\n"), "{text}");
    });
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    step("verify", |text| assert_eq!(text, ""));
}

/// The figure is in docs/security.md, with what is left and why.
#[test]
fn the_units_exposure_is_what_the_documentation_says() {
    step("security", |text| {
        let line = text.lines().find(|line| line.contains("Overall exposure level")).unwrap_or_default();
        assert!(line.contains(" 3.0 "), "{text}");
        let page = include_str!("../../docs/security.md");
        assert!(
            page.contains("`systemd-analyze security metadatad` gives it 3.0"),
            "another figure in docs/security.md"
        );
    });
}

#[test]
fn it_starts_answers_a_guest_and_is_seen_from_outside_its_mount_namespace() {
    step("started", |text| {
        assert!(text.contains("active active\n"), "{text}");
        assert!(text.contains("guest reads packaged.novalocal\n"), "{text}");
        // What is mounted by `metadatad prepare` is there for everybody.
        assert!(text.contains("namespace metadatad\n"), "{text}");
        assert!(text.contains("pins there\n"), "{text}");
        // Threads that answer guests became the user that the package made.
        assert!(text.contains("guests run as metadatad\n"), "{text}");
    });
}

/// The configuration is read again by a thread that is no longer root's.
#[test]
fn a_reload_by_systemd_changes_what_is_answered_and_a_wrong_file_changes_nothing() {
    step("reloaded", |text| {
        assert!(text.contains("access.metadata\n") && text.contains("HTTP Error 403\n"), "{text}");
        assert!(text.contains("active active\n") && text.contains("not accepted\n"), "{text}");
        assert!(text.contains("guest reads packaged.novalocal\n") && !text.contains("process another\n"), "{text}");
    });
}

#[test]
fn a_stopped_daemon_leaves_the_guests_port_as_it_is() {
    step("stopped", |text| assert!(text.contains("filter attached\n"), "{text}"));
}

/// The thread is stopped by ptrace, the others and the process run on.
#[test]
fn a_hung_thread_that_answers_guests_ends_the_daemon_and_the_next_one_answers() {
    step("hung", |text| {
        assert!(text.contains("StatusText=answering guests\n"), "{text}");
        assert!(text.contains("stopped\nkilled\n"), "{text}");
        assert!(text.contains("process another\n"), "{text}");
        assert!(text.contains("tag same\n"), "{text}");
        assert!(text.contains("guest reads packaged.novalocal\n"), "{text}");
        for reason in ["make no progress", "Watchdog timeout"] {
            assert!(text.contains(reason), "{text}");
        }
    });
}

/// Guests ask all the time, over connections that they keep and over new ones. What they saw is in docs/operations.md's promises.
#[test]
fn a_restart_by_systemd_loses_no_request() {
    step("restarted", |text| {
        assert!(text.contains(" failed 0 refused 0\n"), "{text}");
        assert!(text.contains("process another\n") && text.contains("tag same\n"), "{text}");
        assert!(text.contains("NFileDescriptorStore=2\n"), "{text}");
    });
}

/// Those on connections that were being answered at that moment fail: at most one for each of four threads.
#[test]
fn a_killed_daemon_is_started_again_and_refuses_nobody_meanwhile() {
    step("killed", |text| {
        assert!(text.contains(" refused 0\n"), "{text}");
        assert!(text.matches("fault ").count() <= 4, "{text}");
        assert!(text.contains("process another\n") && text.contains("tag same\n"), "{text}");
        assert!(text.contains("guest reads packaged.novalocal\n"), "{text}");
    });
}

/// The first figure is with https' sockets beside http's, the second without them again.
#[test]
fn the_key_of_https_may_be_a_credential_and_the_store_holds_what_is_in_use() {
    step("credential", |text| {
        assert!(text.contains("guest reads over TLS packaged.novalocal\n"), "{text}");
        let stores: Vec<_> = text.lines().filter(|line| line.starts_with("NFileDescriptorStore=")).collect();
        assert_eq!(stores, ["NFileDescriptorStore=4", "NFileDescriptorStore=2"], "{text}");
    });
}

/// The tag names the binding: it is the same only if the port was never detached.
#[test]
fn an_upgrade_and_a_downgrade_restart_the_daemon_and_keep_ports_and_configuration() {
    for name in ["upgraded", "downgraded"] {
        step(name, |text| {
            assert!(text.contains("active active\n"), "{name}: {text}");
            assert!(text.contains("process another\n"), "{name}: {text}");
            assert!(text.contains("tag same\n"), "{name}: {text}");
            assert!(text.contains("guest reads packaged.novalocal\n"), "{name}: {text}");
            assert!(text.contains("configuration kept\n"), "{name}: {text}");
            assert!(text.contains(" failed 0 refused 0\n"), "{name}: {text}");
        });
    }
    step("upgraded", |text| assert!(text.contains("version 0.1.0-2\n"), "{text}"));
    step("downgraded", |text| assert!(text.contains("version 0.1.0-1\n"), "{text}"));
}

#[test]
fn removing_it_releases_the_ports_and_keeps_configuration_and_state() {
    step("removed", |text| {
        assert!(text.contains("active inactive\n"), "{text}");
        assert!(!text.contains("filter attached"), "{text}");
        assert!(text.contains("configuration kept\n"), "{text}");
        assert!(text.contains("snapshot kept\n"), "{text}");
    });
}

#[test]
fn purging_it_leaves_nothing_but_the_user() {
    step("purged", |text| {
        let left: Vec<_> = text.lines().filter(|line| line.starts_with('/')).collect();
        assert!(left.is_empty(), "{left:#?}");
        assert!(text.contains("links: 0\n") && text.contains("units: 0\n"), "{text}");
        assert!(text.contains("user metadatad\n"), "{text}");
    });
}

/// A step that has no test would show nothing.
#[test]
fn every_step_is_judged() {
    let source = include_str!("packages.rs");
    for (name, _) in STEPS {
        assert!(source.matches(&format!("\"{name}\"")).count() > 0, "{name}");
    }
}
