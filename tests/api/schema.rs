//! The published JSON Schema is the program's own.

use std::path::Path;

use metadata_user::source::wire;

/// `METADATAD_WRITE_SCHEMA=1 cargo test -p metadatad-tests --test api schema` writes it anew.
#[test]
fn the_schema_in_deploy_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/instance.schema.json");
    let current = format!("{:#}\n", wire::schema());
    if std::env::var_os("METADATAD_WRITE_SCHEMA").is_some() {
        std::fs::write(&path, &current).expect("deploy/instance.schema.json can be written");
    }
    let published = std::fs::read_to_string(&path).expect("deploy/instance.schema.json");
    assert!(
        published == current,
        "deploy/instance.schema.json is not current: METADATAD_WRITE_SCHEMA=1 cargo test -p metadatad-tests --test api schema"
    );
}
