//! The published JSON Schema is the program's own.

use std::path::Path;

use metadata_user::source::wire;

#[test]
fn the_schema_in_deploy_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/instance.schema.json");
    let current = format!("{:#}\n", wire::schema());
    let published = std::fs::read_to_string(&path).expect("deploy/instance.schema.json");
    assert!(published == current, "deploy/instance.schema.json is not current: `cargo xtask schema` writes it anew");
}
