//! What an instance holds is its own: no type that carries content shows it in its `Debug` output, which ends in logs.

use std::sync::Arc;

use bytes::Bytes;

use super::{read, with};
use crate::api::{Cloud, Content, Date, NovaPages, Page, RenderedInstance, Reply, Request};

/// In every text of the document that may be a secret.
const SECRET: &str = "s3cret";

#[test]
fn debug_output_names_the_instance_and_holds_nothing_of_its_content() {
    let record = read(&with(&format!(
        "\"user_data\": \"{SECRET}\", \"password\": \"{SECRET}\", \"metadata\": {{\"token\": \"{SECRET}\"}}, \
         \"hostname\": \"{SECRET}\", \"display_name\": \"{SECRET}\""
    )));
    let uuid = record.uuid;
    let rendered = RenderedInstance::new(Arc::new(record.clone()), Arc::new(Cloud::default()));
    let page = Page::found(None, Bytes::from_static(SECRET.as_bytes()));
    let pages = NovaPages::new(uuid, [("openstack/latest/user_data".to_owned(), page)]);
    let mut shown = vec![format!("{record:?}")];
    for content in [Content::Rendered(Arc::new(rendered)), Content::NovaPages(Arc::new(pages))] {
        for target in ["/openstack/latest/meta_data.json", "/openstack/latest/user_data", "/latest/meta-data/hostname"]
        {
            let request = Request {
                method: "GET",
                target,
                accept: None,
                content_length: None,
                body: &[],
                today: || Date::from_unix(1_700_000_000),
                seed: &|_| {},
            };
            // Renderings are kept beside the record.
            let reply = content.reply(&request);
            if let Reply::Answer(answer) = &reply {
                shown.push(format!("{answer:?}"));
            }
            shown.push(format!("{reply:?}"));
        }
        let text = format!("{content:?}");
        assert!(text.contains(&uuid.to_string()) || text.contains(&format!("{uuid:?}")), "{text}");
        shown.push(text);
    }
    for text in shown {
        let bytes = format!("{:?}", SECRET.as_bytes());
        assert!(!text.contains(SECRET) && !text.contains(bytes.trim_matches(['[', ']'])), "{text}");
    }
}
