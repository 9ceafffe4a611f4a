//! Passwords that guests post, where the controller keeps them: a real node, a real etcd, and the controller's half of the back
//! channel. Nova is a stand-in: the password's text says what it would answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use lab::{EtcdPlan, Guest, Namespace, NodePlan, wait};
use metadata_user::api::Written;
use metadata_user::config::etcd;
use metadata_user::controller::etcd::back_channel::{answer, requests};
use metadata_user::controller::etcd::{Cluster, Writer};
use tokio::sync::{mpsc, oneshot};

use super::{NODE, boot, source};
use crate::leader;

const PATH: &str = "/openstack/latest/password";

/// Posts a password, and returns the status and `Retry-After`.
pub(crate) fn post(guest: &Guest, password: &str) -> (u16, Option<String>) {
    let url = format!("http://169.254.169.254{PATH}");
    let words = ["--output", "/dev/null", "--dump-header", "-", "--data-binary", password, &url];
    let head = guest.curl(&words).unwrap().to_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    let retry = head.lines().find_map(|line| line.strip_prefix("retry-after: ")).map(|value| value.trim().to_owned());
    (status, retry)
}

/// A leader that answers what is posted, on a thread of its own.
pub(crate) struct Controller {
    thread: JoinHandle<()>,
    end: oneshot::Sender<()>,
    documents: mpsc::UnboundedSender<(String, String)>,
    answered: Arc<AtomicUsize>,
}

impl Controller {
    pub(crate) fn start(namespace: &Namespace, settings: etcd::Etcd, name: &str) -> Self {
        let (end, mut ended) = oneshot::channel();
        let (documents, mut to_write) = mpsc::unbounded_channel::<(String, String)>();
        let answered = Arc::new(AtomicUsize::new(0));
        let (namespace, candidate) = (Namespace::existing(namespace.name()), leader::candidate(name));
        let count = Arc::clone(&answered);
        let thread = std::thread::spawn(move || {
            let work = || async move {
                let cluster = Cluster::new(&settings);
                let term = leader::lead(&cluster, &candidate).await;
                let writer = Writer::new(&cluster);
                writer.load(&term, leader::CLOUD, |_, _, _| {}).await?;
                let mut asked = requests(&cluster);
                loop {
                    tokio::select! {
                        _ = &mut ended => break,
                        Some((id, document)) = to_write.recv() => {
                            writer.put(&term, id.parse()?, document.as_bytes(), &leader::nodes(&[NODE]), None).await?;
                        }
                        // After a failure it goes on.
                        Ok(request) = asked.next() => {
                            assert_eq!((request.node.as_str(), request.path.as_str()), (NODE, PATH));
                            let written = match request.password.as_str().split(' ').next() {
                                Some("exists") => Written::Exists,
                                Some("large") => Written::TooLarge,
                                Some("unavailable") => Written::Unavailable,
                                _ => Written::Kept,
                            };
                            assert!(answer(&term, &request, written).await?);
                            count.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
                term.resign().await?;
                Ok(())
            };
            leader::inside(&namespace, work).unwrap();
        });
        Self { thread, end, documents, answered }
    }

    /// Writes an instance's document for the node.
    pub(crate) fn write(&self, id: &str, document: &str) {
        self.documents.send((id.to_owned(), document.to_owned())).unwrap();
    }

    pub(crate) fn end(self) {
        self.end.send(()).unwrap();
        self.thread.join().unwrap();
    }
}

fn read(guest: &Guest) -> String {
    guest.get(PATH).unwrap().text()
}

#[test]
fn a_posted_password_is_the_controllers_decision_and_none_is_lost() {
    let plan = EtcdPlan::default();
    let further = "passwords = \"controller\"";
    let node = NodePlan::default().source(&source(&plan.endpoints(), further)).make().unwrap();
    let etcd = plan.start(node.namespace()).unwrap();
    node.start_daemon().unwrap();
    let [early, late, refused] = ["a", "b", "c"].map(|name| boot(&node, &etcd, name).unwrap());

    // Nobody answers: the guest is told, and its password waits.
    let try_again = (503, Some("1".to_owned()));
    assert_eq!(post(&early, "early"), try_again);
    assert_eq!(read(&early), "");
    let controller = Controller::start(node.namespace(), leader::settings(&etcd.endpoints()), "one");
    wait::until("the password is kept after all", || Ok((read(&early) == "early").then_some(()))).unwrap();
    assert_eq!(post(&early, "early").0, 409);

    // The controller answers.
    let begun = Instant::now();
    assert_eq!(post(&late, "kept first").0, 200);
    println!("answered after {:?}", begun.elapsed());
    assert_eq!(read(&late), "kept first", "at once");
    let asked = controller.answered.load(Ordering::SeqCst);
    assert_eq!((post(&late, "kept second").0, read(&late).as_str()), (409, "kept first"));
    assert_eq!(controller.answered.load(Ordering::SeqCst), asked, "the node knows it");
    assert_eq!(post(&refused, "unavailable"), try_again);
    for (password, status) in [("exists", 409), ("large", 400)] {
        assert_eq!((post(&refused, password).0, read(&refused).as_str()), (status, ""), "{password}");
    }
    // As Nova shows it from then on.
    controller.write(late.uuid(), &late.document().clone().with("password", "of the document").text());
    wait::until("the document's password", || Ok((read(&late) == "of the document").then_some(()))).unwrap();
    let left = etcd.etcdctl(&["get", "/metadatad/passwords/", "--prefix", "--keys-only"]).unwrap();
    assert_eq!(left.trim(), "", "what is answered is gone");

    // Without etcd.
    controller.end();
    etcd.stop(0).unwrap();
    assert_eq!(post(&refused, "kept unheard"), try_again);
    assert_eq!((read(&early).as_str(), read(&refused).as_str()), ("early", ""));
    etcd.start_all().unwrap();
    let controller = Controller::start(node.namespace(), leader::settings(&etcd.endpoints()), "two");
    assert_eq!((post(&refused, "kept heard").0, read(&refused).as_str()), (200, "kept heard"));
    controller.end();
    for secret in ["early", "kept first", "unheard"] {
        assert!(!node.log().contains(secret), "{secret} is in the log");
    }
}
