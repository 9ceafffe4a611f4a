//! Bad documents: they are named, and hold up neither other documents, nor guests, nor the end of the daemon.

use lab::Node;

#[test]
fn documents_of_brackets_hold_up_nothing() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let shapes = [
        ("brackets", "[".repeat(4_000_000)),
        ("lists", "[".repeat(2_000_000) + &"]".repeat(2_000_000)),
        ("objects", "{\"ports\":".repeat(400_000)),
        ("latin1", "{\"display_name\": \"K\u{f6}ln\"}".repeat(10)),
    ];
    for (name, text) in &shapes {
        let bytes: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        std::fs::write(node.instances().join(format!("{name}.json")), bytes).unwrap();
    }
    // Read after those: its content comes all the same, while they are reported or before.
    node.write(&guest.document().clone().with("hostname", "after")).unwrap();
    lab::wait::until("the later document is served", || {
        let name = guest.get("/latest/meta-data/local-hostname").ok();
        Ok(name.filter(|answer| answer.body.starts_with(b"after")))
    })
    .unwrap();
    let broken = lab::wait::until("every bad document is named", || {
        let source = node.source()?;
        let broken = source["broken"].as_array().cloned().unwrap_or_default();
        Ok((broken.len() == shapes.len()).then_some(broken))
    })
    .unwrap();
    let problem = |name: &str| {
        let found = broken.iter().find(|one| one["name"] == format!("{name}.json"));
        found.and_then(|one| one["problem"].as_str()).unwrap_or_default().to_owned()
    };
    assert!(problem("brackets").contains("this is a list"), "{broken:?}");
    assert!(problem("lists").contains("this is a list"), "{broken:?}");
    assert!(problem("objects").contains("at ports: invalid type: object, expected an array"), "{broken:?}");
    assert!(problem("latin1").contains("the byte 0xf6 is not UTF-8"), "{broken:?}");
    node.stop_daemon().unwrap();
}
