//! What becomes of tokens that end, services that fail in each of their ways, another cloud, and Nova's cache.

mod script;
use serde_json::json;

use super::*;
use crate::controller::openstack::server::tests::server;
use script::{JSON, SERVICES, Script, not_found, port};

fn id() -> InstanceId {
    server().id
}

async fn read(openstack: &OpenStack) -> Result<Option<Server>, AskError> {
    openstack.server(id(), Urgency::Change).await
}

#[tokio::test]
async fn an_instance_is_read_whole_with_one_token() {
    let script = Script::start();
    let openstack = script.openstack();
    let Found::Instance(found) = openstack.read(id(), Urgency::Change).await.expect("an answer") else {
        panic!("none")
    };
    assert_eq!((found.server.host.as_deref(), found.ports.len(), found.moves.len()), (Some("cmp1"), 1, 0));
    assert_eq!(
        found.pages.page("1.0/meta-data/placement/availability-zone").and_then(|page| page.text()),
        Some("nova")
    );
    assert!(found.again_after.is_some(), "who read it before this process began is not known");
    let taken = std::mem::take(&mut script.lock().taken);
    let count = |text: &str| taken.iter().filter(|taken| taken.line.contains(text)).count();
    assert_eq!((count("/auth/tokens"), count("/servers/"), count("/ports?"), count("/os-migrations")), (1, 1, 1, 0));
    let page = taken.iter().find(|taken| taken.line.contains("/md/latest")).expect("a page");
    assert_eq!(page.headers["x-forwarded-for"], "10.0.0.5");
    assert_eq!(openstack.states().iter().filter(|state| state.error.is_some()).count(), 0);
    assert!(
        openstack.states().iter().all(|state| state.requests > 0 && state.in_flight == 0 && state.endpoints.len() == 1)
    );
}

#[tokio::test]
async fn dated_listings_are_asked_for_once_for_all_instances_of_a_shape() {
    let script = Script::start();
    let openstack = script.openstack();
    let mut counts = Vec::new();
    let mut pages = Vec::new();
    for _ in 0..2 {
        let Found::Instance(found) = openstack.read(id(), Urgency::Change).await.expect("an answer") else {
            panic!("none")
        };
        pages.push(found.pages);
        counts.push(
            script.take("/md/").into_iter().filter(|line| line.contains("2009-04-04") || line.contains("1.0")).count(),
        );
    }
    assert_eq!(counts, [6, 0]);
    assert_eq!(pages[0], pages[1], "and all pages are there");
}

#[tokio::test]
async fn dated_listings_that_nova_could_not_answer_are_asked_for_again() {
    let script = Script::start();
    let openstack = script.openstack();
    let path = "2009-04-04/meta-data/instance-type";
    for answers in [false, true] {
        script.instead(move |taken| {
            let fails = !answers && taken.line.ends_with("/md/2009-04-04/meta-data");
            fails.then(|| (500, "text/plain", String::new()))
        });
        let Found::Instance(found) = openstack.read(id(), Urgency::Change).await.expect("an answer") else {
            panic!("none")
        };
        assert_eq!(found.pages.page(path).is_some(), answers);
    }
}

#[tokio::test]
async fn a_token_that_a_service_refuses_is_renewed_once() {
    let script = Script::start();
    let openstack = script.openstack();
    read(&openstack).await.expect("an answer");
    // As after a revocation: only newer ones are valid.
    script.lock().tokens += 1;
    assert!(read(&openstack).await.expect("an answer").is_some());
    assert_eq!(script.take("POST").len(), 2);
    script.instead(|taken| taken.line.contains("/servers/").then(|| (401, JSON, "{}".to_owned())));
    let error = read(&openstack).await.expect_err("it refuses any token");
    assert_eq!((error.failure, script.take("POST").len()), (Failure::Refused, 1));
    assert!(error.to_string().contains("role admin"), "{error}");
}

#[tokio::test]
async fn a_token_that_nova_takes_and_neutron_refuses_is_renewed() {
    let refused =
        json!({"badRequest": {"code": 400, "message": "Networking client is experiencing an unauthorized exception."}});
    for (status, body) in
        [(400, refused), (500, json!({"computeFault": {"code": 500, "message": "Unexpected API Error."}}))]
    {
        let script = Script::start();
        let openstack = script.openstack();
        script.instead(move |taken| {
            let is_old = taken.headers.get("x-auth-token").is_some_and(|token| token == "t1");
            (taken.line.contains("/servers/") && is_old).then(|| (status, JSON, body.to_string()))
        });
        assert!(read(&openstack).await.expect("an answer").is_some(), "{status}");
        assert_eq!(script.take("POST").len(), 2);
        script.instead(move |taken| {
            taken.line.contains("/servers/").then(|| (status, JSON, "\"unauthorized\"".to_owned()))
        });
        for _ in 0..5 {
            read(&openstack).await.expect_err("it is not the token");
        }
        assert!(script.take("POST").len() <= 1, "each failure costs a token");
    }
}

#[tokio::test]
async fn what_neutron_has_and_nova_does_not_know_yet_is_read_again() {
    let script = Script::start();
    let openstack = script.openstack();
    let read = async || match openstack.read(id(), Urgency::Change).await.expect("an answer") {
        Found::Instance(instance) => instance.again_after,
        found => panic!("{found:?}"),
    };
    let cache = read().await.expect("the process has just begun");
    assert!(cache > Duration::from_secs(5), "{cache:?}");
    script.lock().floating = vec![];
    let first = read().await.expect("a floating IP was taken away");
    assert!(first < Duration::from_secs(1), "{first:?}");
    let later = async || read().await.expect("it still differs");
    let mut longest = first;
    for _ in 0..6 {
        longest = longest.max(later().await);
    }
    assert!(longest > Duration::from_secs(5), "{longest:?}");
    script.lock().floating = vec!["203.0.113.5"];
    assert!(read().await.expect("the cache") > Duration::from_secs(5));
    script.lock().ports[0]["fixed_ips"] = json!([{"ip_address": "10.0.0.6"}, {"ip_address": "fd00::5"}]);
    assert!(read().await.expect("another address") < Duration::from_secs(1));
    script.instead(|taken| taken.line.contains("/floatingips").then(|| (404, JSON, "{}".to_owned())));
    assert!(read().await.is_some(), "a Neutron without routers has none");
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends_and_stays_in_use_while_keystone_is_down() {
    let script = Script::start();
    let openstack = script.openstack();
    script.lock().token_life = 0;
    assert!(read(&openstack).await.expect("an answer").is_some());
    assert!(read(&openstack).await.expect("an answer").is_some());
    assert_eq!(script.take("POST").len(), 2, "each had ended");
    script.lock().token_life = 3600;
    read(&openstack).await.expect("an answer");
    script.instead(|taken| taken.line.contains("/auth/tokens").then(|| (503, "text/html", String::new())));
    read(&openstack).await.expect("the token is valid");
    script.lock().tokens += 1;
    let error = read(&openstack).await.expect_err("no token");
    assert_eq!((error.service, error.failure), (Service::Keystone, Failure::Unavailable));
}

#[tokio::test]
async fn while_a_token_is_renewed_the_one_that_is_valid_stays_in_use() {
    let script = Script::start();
    let openstack = script.openstack();
    read(&openstack).await.expect("an answer");
    openstack.session.keystone.make_due();
    script.instead(|taken| taken.line.contains("/auth/tokens").then(|| (0, JSON, String::new())));
    let mut renews = std::pin::pin!(read(&openstack));
    let asks_keystone = || openstack.states()[0].in_flight == 1;
    tokio::select! {
        biased;
        _ = &mut renews => panic!("Keystone does not answer"),
        other = async {
            while !asks_keystone() {
                tokio::task::yield_now().await;
            }
            read(&openstack).await
        } => assert!(other.expect("an answer").is_some() && asks_keystone()),
    }
}

#[tokio::test]
async fn a_refused_credential_is_not_sent_again_until_its_file_changes() {
    let script = Script::start();
    let openstack = script.openstack();
    script.lock().secret = "s2".to_owned();
    for _ in 0..5 {
        let error = read(&openstack).await.expect_err("refused");
        assert_eq!((error.service, error.failure), (Service::Keystone, Failure::Refused));
        assert!(error.to_string().contains("requires authentication") && !error.to_string().contains("s1"), "{error}");
    }
    assert_eq!(script.take("POST").len(), 1, "Keystone may lock who fails often");
    script.write("credential", "s2\n");
    assert!(read(&openstack).await.expect("an answer").is_some());
    assert!(!format!("{openstack:?} {:?}", openstack.session.keystone).contains("s2"));
}

#[tokio::test]
async fn only_novas_own_404_from_the_expected_cloud_is_a_server_that_is_gone() {
    let script = Script::start();
    let openstack = script.openstack();
    let cloud = openstack.cloud_id().await.expect("a cloud");
    let gone = id().to_string();
    script.instead(move |taken| taken.line.contains("/servers/").then(|| not_found(&gone)));
    let error = read(&openstack).await.expect_err("nobody said which cloud it is");
    assert_eq!(error.failure, Failure::OtherCloud);
    openstack.expect(cloud.to_string().parse().expect("an identity")).await;
    assert_eq!(read(&openstack).await, Ok(None));
    assert_eq!(openstack.states()[1].error, None);

    script.lock().services = vec!["00000000-0000-4000-8000-000000000009"];
    let error = read(&openstack).await.expect_err("a fresh database");
    assert_eq!(error.failure, Failure::OtherCloud);
    assert!(openstack.states()[1].error.as_ref().is_some_and(|(_, error)| error.contains("another cloud")));
    assert_eq!(openstack.check_cloud().await.map_err(|error| error.failure), Err(Failure::OtherCloud));
    script.lock().services = vec![SERVICES[0], "00000000-0000-4000-8000-000000000009"];
    assert_eq!(read(&openstack).await, Ok(None), "one of two hosts was replaced");
    assert!(openstack.check_cloud().await.is_ok() && openstack.states()[1].error.is_none());
}

#[tokio::test]
async fn every_other_failure_is_told_apart_and_removes_nothing() {
    let script = Script::start();
    let openstack = script.openstack();
    let cloud = openstack.cloud_id().await.expect("a cloud");
    openstack.expect(cloud).await;
    let another = "11111111-0000-4000-8000-000000000001";
    for (answer, expected) in [
        ((404, "text/html", "<html>nginx</html>".to_owned()), Failure::Unavailable),
        ((404, JSON, json!({"error": "no such route"}).to_string()), Failure::NotUnderstood),
        (not_found(another), Failure::NotUnderstood),
        ((200, "text/html", "<html>maintenance</html>".to_owned()), Failure::Unavailable),
        ((200, JSON, "{\"server\": 1}".to_owned()), Failure::NotUnderstood),
        ((403, JSON, "{}".to_owned()), Failure::Refused),
        ((500, JSON, "{}".to_owned()), Failure::OneRequest),
        ((302, "text/html", String::new()), Failure::NotUnderstood),
    ] {
        let said = answer.clone();
        script.instead(move |taken| taken.line.contains("/servers/").then(|| said.clone()));
        let error = read(&openstack).await.expect_err("no answer");
        assert_eq!((error.service, error.failure), (Service::Nova, expected), "{answer:?}: {error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
    // All of Nova answers 404, as itself.
    let gone = id().to_string();
    script.instead(move |taken| taken.line.contains("/compute/").then(|| not_found(&gone)));
    assert_eq!(read(&openstack).await.map_err(|error| error.failure), Err(Failure::NotUnderstood));
}

#[tokio::test]
async fn a_service_that_is_down_is_left_alone_for_a_moment() {
    let script = Script::start();
    let openstack = script.openstack();
    read(&openstack).await.expect("an answer");
    script.instead(|taken| taken.line.contains("/servers/").then(|| (503, "text/html", "busy".to_owned())));
    script.take("");
    for _ in 0..20 {
        let error = read(&openstack).await.expect_err("down");
        assert!(error.to_string().contains("answered 503") && error.failure == Failure::Unavailable, "{error}");
    }
    assert!(script.take("/servers/").len() < 20, "each was sent");
    assert_eq!(
        openstack.ports_of(&[id()], Urgency::Change).await.map(|ports| ports.len()),
        Ok(1),
        "Neutron is not Nova"
    );
}

#[tokio::test]
async fn a_service_that_hangs_ends_in_an_error() {
    let script = Script::start();
    let mut settings = script.settings("");
    settings.keystone.read_timeout = Duration::from_millis(50);
    let openstack = OpenStack::new(&settings).expect("an OpenStack");
    script.instead(|taken| taken.line.contains("/servers/").then(|| (0, JSON, String::new())));
    let error = read(&openstack).await.expect_err("it hangs");
    assert!(error.to_string().contains("no complete answer within 50ms"), "{error}");
}

#[tokio::test]
async fn all_servers_are_listed_in_pages() {
    let script = Script::start();
    let openstack = script.openstack();
    let (mut marker, mut ids) = (Some(Marker::start()), Vec::new());
    while let Some(from) = marker {
        let (servers, next) = openstack.servers(&from).await.expect("a page");
        ids.extend(servers.into_iter().map(|server| server.id.to_string()));
        marker = next;
    }
    assert_eq!(ids.iter().map(|id| id.chars().last()).collect::<Vec<_>>(), [Some('1'), Some('2'), Some('3')]);
    let asked = script.take("/servers/detail");
    assert!(asked.iter().all(|line| line.contains("all_tenants=1&sort_key=uuid&sort_dir=asc&limit=500")), "{asked:?}");
    let (_, next) = openstack.servers(&Marker::start()).await.expect("a page");
    let next = next.expect("another page");
    for (message, expected) in [
        ("marker [0d1f4f1e-5d6c-4d60-9d5d-1f5d5b0f5a02] not found", Failure::MarkerGone),
        ("something else", Failure::NotUnderstood),
    ] {
        let body = json!({"badRequest": {"code": 400, "message": message}}).to_string();
        script.instead(move |taken| taken.line.contains("marker=").then(|| (400, JSON, body.clone())));
        let error = openstack.servers(&next).await.expect_err(message);
        assert_eq!(error.failure, expected, "{message}");
    }
}

#[tokio::test]
async fn a_list_that_does_not_go_on_is_an_error() {
    let script = Script::start();
    let openstack = script.openstack();
    let (_, next) = openstack.servers(&Marker::start()).await.expect("a page");
    // As from a cache that does not look at the query.
    let page = script.lock().list("");
    script.instead(move |taken| taken.line.contains("marker=").then(|| (200, JSON, page.to_string())));
    let error = openstack.servers(&next.expect("another page")).await.expect_err("the same page");
    assert_eq!(error.failure, Failure::NotUnderstood);
}

#[tokio::test]
async fn moves_of_a_server_that_is_not_at_rest_are_read() {
    let script = Script::start();
    let openstack = script.openstack();
    script.lock().server["OS-EXT-STS:task_state"] = "migrating".into();
    let moving = |status: &str| json!({"status": status, "migration_type": "live-migration", "source_compute": "cmp1", "dest_compute": "cmp2"});
    script.lock().migrations = json!([moving("running"), moving("completed")]);
    let Found::Instance(found) = openstack.read(id(), Urgency::Change).await.expect("an answer") else {
        panic!("none")
    };
    assert_eq!(found.moves.iter().map(|one| one.dest.as_deref()).collect::<Vec<_>>(), [Some("cmp2")]);
}

#[tokio::test]
async fn lists_of_ports_are_whole_and_ports_that_nova_has_must_be_there() {
    let script = Script::start();
    let openstack = script.openstack();
    script.instead(|taken| {
        let next = json!([{"rel": "next", "href": "http://elsewhere/v2.0/ports?limit=1&marker=m"}]);
        let body = if taken.line.contains("marker=m") {
            json!({"ports": [port()]})
        } else {
            json!({"ports": [port()], "ports_links": next})
        };
        taken.line.contains("/ports?").then(|| (200, JSON, body.to_string()))
    });
    assert_eq!(openstack.ports_of(&[id(); 60], Urgency::Background).await.map(|ports| ports.len()), Ok(4));
    assert_eq!(openstack.ports_of_group("g").await.map(|ports| ports.len()), Ok(2));
    script.instead(|taken| taken.line.contains("/ports?").then(|| (200, JSON, "{\"ports\": []}".to_owned())));
    let error = openstack.read(id(), Urgency::Change).await.expect_err("Neutron lost it");
    assert_eq!((error.service, error.failure), (Service::Neutron, Failure::OtherCloud));
    let lost = json!({"NeutronError": {"type": "PortNotFound", "message": "x", "detail": ""}}).to_string();
    script.instead(move |taken| taken.line.contains("/ports/").then(|| (404, JSON, lost.clone())));
    let found = openstack.port(PortId(id().0)).await;
    assert_eq!(found, Ok(None));
    script.instead(|taken| taken.line.contains("/ports/").then(|| (404, JSON, "{}".to_owned())));
    assert!(openstack.port(PortId(id().0)).await.is_err(), "it is not Neutron's own answer");
}

#[tokio::test]
async fn what_nova_has_in_its_cache_is_not_taken_for_new() {
    let script = Script::start();
    let openstack = script.openstack();
    openstack.read(id(), Urgency::Change).await.expect("an answer");
    let before = json!({"meta": {"role": "web"}, "name": "web 1", "project_id": "p1"});
    {
        let mut cloud = script.lock();
        cloud.cached = Some(before);
        cloud.server["metadata"] = json!({"role": "db"});
    }
    script.take("");
    for _ in 0..3 {
        let found = openstack.read(id(), Urgency::Change).await.expect("an answer");
        assert!(
            matches!(found, Found::Stale { what: "properties", again_after } if !again_after.is_zero()),
            "{found:?}"
        );
    }
    assert_eq!(script.take("/md/").len(), 3, "each look is one request");
    script.lock().cached = None;
    let Found::Instance(found) = openstack.read(id(), Urgency::Change).await.expect("an answer") else {
        panic!("none")
    };
    let page = found.pages.page("openstack/2012-08-10/meta_data.json").and_then(|page| page.text()).map(str::to_owned);
    assert!(page.is_some_and(|page| page.contains("db")));
}

#[tokio::test]
async fn an_instance_is_asked_for_in_the_cell_of_its_host() {
    let (one, other) = (Script::start(), Script::start());
    other.lock().project = "another".to_owned();
    let cells = format!("cells = [['http://{}/md'], ['http://{}/md']]", other.address, one.address);
    let openstack = OpenStack::new(&one.settings(&cells)).expect("an OpenStack");
    for expected in [1, 0] {
        assert!(matches!(openstack.read(id(), Urgency::Change).await, Ok(Found::Instance(_))));
        assert_eq!(other.take("/md/").len(), expected, "asked in the wrong cell");
    }
    one.lock().project = "another".to_owned();
    assert!(matches!(openstack.read(id(), Urgency::Change).await, Ok(Found::WithoutPages(_))));
    other.instead(|_| Some((503, "text/html", String::new())));
    let error = openstack.read(id(), Urgency::Change).await.expect_err("a cell is down");
    assert_eq!(
        (error.service, error.failure),
        (Service::Metadata, Failure::OneRequest),
        "of other cells it says nothing"
    );
}

#[tokio::test]
async fn neutron_is_asked_whether_it_answers_again_though_nobody_needs_it() {
    let script = Script::start();
    let openstack = script.openstack();
    openstack.look_after().await;
    assert_eq!(script.take("").len(), 0, "nothing failed");
    script.instead(|taken| taken.line.contains("/network/").then(|| (500, JSON, "{}".to_owned())));
    openstack.ports_of(&[id()], Urgency::Change).await.expect_err("it fails");
    script.instead(|_| None);
    openstack.look_after().await;
    assert_eq!(openstack.states()[3].error, None);
}

#[tokio::test]
async fn a_keystone_that_fails_with_those_that_ask_it_is_named_and_a_refused_credential_stays() {
    let script = Script::start();
    let openstack = script.openstack();
    let keystone = |openstack: &OpenStack| openstack.states()[0].error.clone().map(|(_, error)| error);
    script.instead(|_| Some((503, JSON, "{}".to_owned())));
    openstack.ports_of(&[id()], Urgency::Change).await.expect_err("it fails");
    assert!(keystone(&openstack).expect("it failed").contains("whether Keystone runs"));
    script.instead(|_| None);
    tokio::time::timeout(Duration::from_secs(60), async {
        while keystone(&openstack).is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            openstack.look_after().await;
        }
    })
    .await
    .expect("it answers again");
    openstack.ports_of(&[id()], Urgency::Change).await.expect("ports");
    // With a token that is still valid.
    script.instead(|taken| (!taken.line.contains("/md")).then(|| (503, JSON, "{}".to_owned())));
    openstack.ports_of(&[id()], Urgency::Change).await.expect_err("it fails");
    assert_eq!(keystone(&openstack), None, "nobody asked it");
    openstack.look_after().await;
    assert!(keystone(&openstack).expect("it failed").contains("asking whether"));
}

#[tokio::test]
async fn a_password_is_posted_where_the_instance_is_known() {
    let script = Script::start();
    let openstack = script.openstack();
    let (server, password) = (server(), Password::new("secret").expect("a password"));
    let path = "openstack/latest/password";
    assert_eq!(openstack.post_password(&server, path, &password).await, Ok(Written::Kept));
    script.instead(|taken| taken.line.starts_with("POST /md").then(|| (409, "text/plain", String::new())));
    assert_eq!(openstack.post_password(&server, path, &password).await, Ok(Written::Exists));
    script.instead(|taken| {
        taken.line.contains("/md/").then(|| (403, "text/plain", "Invalid proxy request signature.".to_owned()))
    });
    let error = openstack.post_password(&server, path, &password).await.expect_err("the wrong secret");
    assert_eq!(error.failure, Failure::Refused);
    assert!(error.to_string().contains("metadata_api.shared_secret_file"), "{error}");
}
