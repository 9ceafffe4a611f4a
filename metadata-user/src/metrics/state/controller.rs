//! The controller's metrics. Those of its process are the daemon's.

use super::{
    BUILD, Declared, DeclaredHistogram, PROCESS_ADDRESSES, PROCESS_CPU, PROCESS_FDS, PROCESS_MAX_FDS, PROCESS_MEMORY,
    PROCESS_START,
};

/// Values of the label `service`, as `controller::openstack` names them.
pub const SERVICES: &[&str] = &["keystone", "nova", "metadata_api", "neutron"];

/// Those of the daemon that the controller has too.
pub(super) static SHARED: &[&Declared] =
    &[&BUILD, &PROCESS_CPU, &PROCESS_MEMORY, &PROCESS_ADDRESSES, &PROCESS_FDS, &PROCESS_MAX_FDS, &PROCESS_START];

/// How long changes took.
pub static LAG: DeclaredHistogram = DeclaredHistogram {
    name: "metadatad_controller_lag",
    help: "Time of a change, from its notification or the listing that found it, until etcd has it or nothing is found to have changed",
    bounds: &LAG_BOUNDS,
};

/// How much of that was reading from OpenStack.
pub static READING: DeclaredHistogram = DeclaredHistogram {
    name: "metadatad_controller_reading",
    help: "The part of a change's time that Keystone, Nova and Neutron took to answer, at the attempt that succeeded",
    bounds: &LAG_BOUNDS,
};

/// Upper bounds of the buckets of [`LAG`] and [`READING`], in seconds.
pub const LAG_BOUNDS: [f64; 12] = [0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0];

declared! {
    LEADING = Declared::new("metadatad_controller_leading", "Whether this controller leads: 1, else 0");
    PROBLEMS = Declared::new(
        "metadatad_controller_problems",
        "What is wrong now; `metadatad controller status` has each with its remedy",
    );
    OTHER_CLOUD = Declared::new(
        "metadatad_controller_other_cloud",
        "Whether Nova answers for another cloud than the documents in etcd are of, so that nothing is read or written: 1, else 0",
    );
    KNOWN = Declared::new(
        "metadatad_controller_instances",
        "Instances that this leader keeps, by whether the document alone gives Nova's answers",
    ).by("fidelity", &["document", "pages", "unread"]);
    FAILED = Declared::new(
        "metadatad_controller_instances_failed",
        "Instances that could not be read or written at the last attempt",
    );
    BACKLOG = Declared::new("metadatad_controller_backlog", "Instances that wait to be read");
    OLDEST = Declared::new(
        "metadatad_controller_oldest_change",
        "Age of the oldest change that is not written yet; 0: there is none",
    ).seconds();
    WRITES = Declared::new(
        "metadatad_controller_documents",
        "Documents by what became of them in etcd, one for each node and write",
    ).counter().by("result", &["written", "unchanged", "removed", "overwritten"]);
    WRITE_FAILURES = Declared::new("metadatad_controller_write_failures", "Writes to etcd that failed").counter();
    REQUESTS = Declared::new(
        "metadatad_controller_requests",
        "Requests to the services of the OpenStack",
    ).counter().by("service", SERVICES);
    REQUEST_FAILURES = Declared::new(
        "metadatad_controller_request_failures",
        "Requests that had no usable answer",
    ).counter().by("service", SERVICES);
    IN_FLIGHT = Declared::new("metadatad_controller_requests_in_flight", "Requests under way").by("service", SERVICES);
    SERVICE_UP = Declared::new(
        "metadatad_controller_service_up",
        "Whether the last request to the service had a usable answer: 1, else 0",
    ).by("service", SERVICES);
    CONNECTED = Declared::new(
        "metadatad_controller_notifications_connected",
        "Whether notifications are consumed: 1, else 0; absent where they are not configured, and while another controller leads",
    );
    NOTIFICATIONS = Declared::new(
        "metadatad_controller_notifications",
        "Notifications by what they were: read, ignored because they name nothing of an instance, or malformed",
    ).counter().by("result", &["read", "ignored", "malformed"]);
    GAPS = Declared::new(
        "metadatad_controller_notification_gaps",
        "How often notifications may have been lost, so that everything was compared",
    ).counter();
    LISTED = Declared::new(
        "metadatad_controller_listed_timestamp",
        "When all servers were last listed; absent until then",
    ).seconds();
    PASSWORDS = Declared::new(
        "metadatad_controller_passwords",
        "Passwords that guests posted, by whether Nova could be asked to keep them",
    ).counter().by("result", &["passed_on", "failed"]);
}
