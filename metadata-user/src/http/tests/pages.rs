//! Pages beside a document's facts, through a connection: what a policy forbids is forbidden for them too.

use super::*;
use crate::policy::{AccessOverrides, PolicyOverrides, PrivilegedPaths, SessionMode, UserData};
use crate::record::{InstanceRecord, PageAnswer, PageRecord};

const PATHS: [&str; 4] =
    ["latest/meta-data/hostname", "latest/user-data", "openstack/latest/meta_data.json", "openstack/latest/user_data"];

/// Returns the statuses of all the paths, where the policy says this.
async fn statuses(access: AccessOverrides) -> [u16; 4] {
    let node = Node::new();
    node.bind_to(1);
    let page = |path: &str| PageRecord {
        path: path.into(),
        answer: Some(PageAnswer { content_type: None, body: format!("page {path}").into() }),
    };
    let policy = PolicyOverrides { access, ..PolicyOverrides::default() };
    let pages = PATHS.into_iter().map(page).collect();
    node.store.put(InstanceRecord { policy, pages, ..record(1, "p", &["tap1"]) });
    let mut statuses = [0; 4];
    for (path, status) in PATHS.into_iter().zip(&mut statuses) {
        let (client, _) = node.connect();
        let answer = exchange(client, format!("GET //{path}/ HTTP/1.1\r\n\r\n").as_bytes()).await;
        *status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect(&answer);
        let is_page = answer.ends_with(&format!("page {path}")) && !answer.contains("content-type");
        assert_eq!(is_page, *status == 200, "{answer}");
    }
    statuses
}

#[tokio::test]
async fn what_a_policy_forbids_is_forbidden_for_pages_too() {
    let all = AccessOverrides::default();
    assert_eq!(statuses(all).await, [200; 4]);
    let no_metadata = AccessOverrides { metadata: Some(false), ..all };
    assert_eq!(statuses(no_metadata).await, [403; 4]);
    let no_ec2 = AccessOverrides { ec2: Some(false), ..all };
    assert_eq!(statuses(no_ec2).await, [404, 404, 200, 200]);
    let no_user_data = AccessOverrides { user_data: Some(UserData::Never), ..all };
    assert_eq!(statuses(no_user_data).await, [200, 404, 200, 404]);
    let tokens = AccessOverrides { session: Some(SessionMode::Required), ..all };
    assert_eq!(statuses(tokens).await, [401; 4]);
    let privileged = AccessOverrides { privileged: Some(PrivilegedPaths::USER_DATA), ..all };
    assert_eq!(statuses(privileged).await, [200, 403, 200, 403]);
}
