//! What a Nova that half works, and a proxy before one, make of an instance's content.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::api::{Page, Password, Status};
use crate::config::target::TargetUrl;
use crate::nova_metadata::endpoints::{EndpointFailure, Endpoints};
use crate::nova_metadata::prefetch;
use crate::secret::Secret;
use crate::secret::sign::Signer;
use crate::store::tests::id;

/// Answers each request by its path, on a connection each: a status and a body, or `None` for no answer. Ends with the
/// process.
fn serve(answer: impl Fn(&str) -> Option<(u16, String)> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).is_ok_and(|read| read > 0) {}
            let path = head.split(' ').nth(1).unwrap_or_default();
            if let Some((status, body)) = answer(path) {
                let length = body.len();
                let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
                let _ = stream.get_mut().write_all((head + &body).as_bytes());
            }
        }
    });
    format!("http://{address}")
}

fn client(url: &str) -> Client {
    let text = format!("[source]\nkind = 'nova'\n[source.nova]\nendpoints = ['{url}']\n");
    let config = config::Config::parse(std::path::Path::new("m.toml"), &text).unwrap();
    let config::Source::Nova(settings) = config.source else { panic!("another source") };
    Client::new(&settings, None, Signer::new(&Secret::new(b"s".to_vec())), &NAMES)
}

fn who() -> Requester {
    Requester { instance: id(1), project: "p".into(), address: None }
}

fn proof(path: &str) -> Option<(u16, String)> {
    path.ends_with(prefetch::PROOF).then(|| (200, "{}".to_owned()))
}

#[tokio::test]
async fn no_path_of_a_guest_takes_the_endpoint_away_from_others() {
    for refusal in [(400, "no such thing"), (403, "filtered"), (404, "<html>nginx</html>"), (502, "")] {
        let url = serve(move |path| proof(path).or(Some((refusal.0, refusal.1.to_owned()))));
        let client = client(&url);
        assert_eq!(client.page(&who(), "latest/%", Urgency::Guest).await, Err(NovaError::Broken), "{refusal:?}");
        assert_eq!((client.endpoints.awake().len(), client.endpoints.trouble()), (1, None), "{refusal:?}");
    }
    for refusal in [Some((500, String::new())), Some((406, "firewall".to_owned())), None] {
        let answer = refusal.clone();
        let client = client(&serve(move |path| proof(path).or(answer.clone())));
        let password = Password::new("\u{1f600}").unwrap();
        let posted = client.post(&who(), "openstack/latest/password", &password).await;
        assert_eq!(posted, Err(NovaError::Broken), "{refusal:?}");
        assert_eq!((client.endpoints.awake().len(), client.endpoints.trouble()), (1, None), "{refusal:?}");
    }
}

#[tokio::test]
async fn a_worker_that_dies_once_decides_nothing_about_a_path() {
    for dies in [Some((500, String::new())), None] {
        let asked = AtomicU32::new(0);
        let url = serve(move |path| {
            let again = || (200, "key".to_owned());
            proof(path).or_else(|| match asked.fetch_add(1, Ordering::Relaxed) {
                0 => dies.clone(),
                _ => Some(again()),
            })
        });
        let client = client(&url);
        assert_eq!(client.page(&who(), "latest/meta-data/x", Urgency::Guest).await, Err(NovaError::Broken));
        assert_eq!(client.page(&who(), "latest/meta-data/x", Urgency::Guest).await.unwrap().status(), Status::Ok);
    }
    let url = serve(|path| proof(path).or(Some((500, String::new()))));
    let page = client(&url).page(&who(), "latest/meta-data/hostname/x", Urgency::Guest).await;
    assert_eq!(page.unwrap().status(), Status::NotFound, "a crash each time is how Nova answers 404 there");
}

#[tokio::test]
async fn a_page_that_is_known_outlives_a_crash() {
    let lists = |path: &str| match path {
        "/" => Some((200, "latest".to_owned())),
        "/openstack" => Some((200, "latest".to_owned())),
        path => proof(path),
    };
    let url = serve(move |path| lists(path).or(Some((500, String::new()))));
    let hostname = Page::found(None, bytes::Bytes::from_static(b"name"));
    let old = NovaPages::new(id(1), [("latest/meta-data/hostname".to_owned(), hostname.clone())]);
    let further = ["latest/meta-data/hostname".to_owned(), "latest/meta-data/none".to_owned()];
    let pages = refresh::whole(&client(&url), &who(), &further, Some(&old), refresh::OF_NODE).await.unwrap();
    assert_eq!(pages["latest/meta-data/hostname"], hostname);
    assert_eq!(pages["latest/meta-data/none"].status(), Status::NotFound);
}

#[tokio::test]
async fn a_page_that_a_guest_asked_for_as_well_is_read_once() {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let url = serve(move |path| {
        count.fetch_add(u32::from(path == "/openstack/latest/user_data"), Ordering::Relaxed);
        let is_list = matches!(path, "/" | "/openstack");
        proof(path).or_else(|| Some((200, if is_list { "latest".to_owned() } else { String::new() })))
    });
    let further = ["openstack/latest/user_data".to_owned()];
    refresh::whole(&client(&url), &who(), &further, None, refresh::OF_NODE).await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

fn shared(url: &str) -> Shared {
    Shared {
        store: Arc::new(Store::new(crate::api::Cloud::default())),
        client: client(url),
        refresh: Duration::from_secs(60),
        reread: Duration::from_secs(3600),
        tasks: Mutex::default(),
        leaving: Mutex::default(),
        left: Notify::new(),
        view: StateView::new(SourceState::new("nova", url.to_owned())),
        synced: Mutex::default(),
        moved: Notify::new(),
    }
}

#[tokio::test]
async fn an_unchanged_instance_costs_three_requests_and_a_change_is_found() {
    let (asked, group) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new("default")));
    let (count, of_nova) = (Arc::clone(&asked), Arc::clone(&group));
    let url = serve(move |path| {
        count.fetch_add(1, Ordering::Relaxed);
        proof(path).or_else(|| match path {
            "/" | "/openstack" => Some((200, "latest".to_owned())),
            "/latest" => Some((200, "meta-data/".to_owned())),
            "/latest/meta-data" => Some((200, "ami-id\nsecurity-groups".to_owned())),
            "/latest/meta-data/security-groups" => Some((200, of_nova.lock().to_string())),
            "/latest/meta-data/ami-id" => Some((200, "ami-00000001".to_owned())),
            // As a proxy before Nova does: it is no answer.
            "/openstack/latest/vendor_data.json" => Some((502, String::new())),
            _ => Some((404, crate::api::NOT_FOUND_TEXT.to_owned())),
        })
    });
    let (shared, task) = (shared(&url), InstanceTask::new(Some(who())));
    let requests = async |has_changed: bool| {
        let before = asked.load(Ordering::Relaxed);
        shared.refresh(&who(), &task, has_changed).await.unwrap();
        asked.load(Ordering::Relaxed) - before
    };
    let whole = requests(false).await;
    assert!(whole > 3, "all is read at first: {whole}");
    for number in 0..18 {
        // What is broken is asked for once more, to see whether Nova answers at all.
        assert!(requests(false).await <= 3 + u32::from(prefetch::also_checked(number).ends_with("vendor_data.json")));
    }
    assert!(requests(true).await > 3, "it is known to have changed");
    *group.lock() = "other";
    let mut most = 0;
    for _ in 0..3 {
        most = most.max(requests(false).await);
    }
    assert!(most > 3, "nothing was read again: {most}");
    let pages = shared.store.nova_pages(id(1)).unwrap();
    assert_eq!(pages.page("latest/meta-data/security-groups").and_then(Page::text), Some("other"));
}

#[tokio::test(start_paused = true)]
async fn a_change_on_the_node_has_an_instance_read_when_novas_cache_is_over() {
    let (shared, facts, task) =
        (Arc::new(shared("http://127.0.0.1:1")), Facts::new(), Arc::new(InstanceTask::new(None)));
    shared.lock().insert(id(1), Arc::clone(&task));
    let report = |fingerprint| {
        let fact = crate::facts::Fact {
            instance: id(1),
            project: None,
            port: None,
            mac: None,
            addresses: Vec::new(),
            fingerprint,
        };
        facts.set(crate::facts::Observer::Libvirt, "tap1", Some(fact));
        shared.follow(&facts);
    };
    let is_read_again = async || tokio::time::timeout(FRESH * 2, task.changed.notified()).await.is_ok();
    for (fingerprint, expected) in
        [(Some(1), false), (Some(1), false), (None, false), (Some(1), false), (Some(2), true)]
    {
        let begun = Instant::now();
        report(fingerprint);
        assert_eq!(is_read_again().await, expected, "{fingerprint:?}");
        assert!(begun.elapsed() >= FRESH);
    }
}

#[tokio::test]
async fn a_nova_that_knows_no_instance_is_not_believed() {
    let knows = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let here = Arc::clone(&knows);
    let url = serve(move |path| match here.load(Ordering::Relaxed) {
        true => proof(path),
        false => Some((404, crate::api::NOT_FOUND_TEXT.to_owned())),
    });
    let shared = shared(&url);
    shared.lock().insert(id(1), Arc::new(InstanceTask::new(Some(who()))));
    assert!(shared.knows_another(id(1)).await, "there is no other instance to compare with");
    shared.lock().insert(id(2), Arc::new(InstanceTask::new(Some(Requester { instance: id(2), ..who() }))));
    assert!(!shared.knows_another(id(1)).await);
    knows.store(true, Ordering::Relaxed);
    assert!(shared.knows_another(id(1)).await);
}

#[test]
fn the_documentation_quotes_messages_that_are_printed() {
    let page = include_str!("../../../../docs/openstack.md");
    let table = page.split("## Errors").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let cells = table.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split('|').nth(1));
    let quoted: Vec<_> = cells.filter_map(|cell| cell.split_once("`: `")?.1.trim().strip_suffix('`')).collect();
    let trouble = |failure| {
        let endpoints = Endpoints::new(vec![TargetUrl::parse("http://nova:8775").unwrap()], &NAMES, 0);
        endpoints.failed(0, failure, "gone".to_owned(), 0);
        endpoints.trouble()
    };
    let printed = [
        trouble(EndpointFailure::Secret),
        trouble(EndpointFailure::Down),
        problem(&InstanceState::Unknown(1)),
        problem(&InstanceState::WithoutProject),
    ];
    assert_eq!(quoted.len(), printed.len(), "{quoted:?}");
    for (quoted, printed) in quoted.iter().zip(printed.iter().flatten()) {
        assert!(printed.starts_with(quoted), "{quoted} is not in: {printed}");
    }
}
