//! `[access]`: what instances may read, and how.

use super::key::{Key, Table};
use super::kind::{Choice, List, Number, Switch, TIMEOUT, Timeout};
use super::refusal::Refusal;
use super::written::Reader;
use crate::policy::{Access, HOP_LIMIT, PrivilegedPaths, SessionMode, UserData};

pub(super) static TABLE: Table = Table {
    name: "access",
    about: "What instances may read, and how. A document may set another value for its instance, in its member `policy`, for \
            all keys but first_boot.",
    keys: &[&METADATA, &IPV6, &EC2, &USER_DATA, &FIRST_BOOT, &PRIVILEGED, &SESSION, &HOP_LIMIT_KEY],
    tables: &[],
    is_optional: false,
    live: &["metadata", "ipv6", "ec2", "user_data", "first_boot", "privileged", "session", "hop_limit"],
};

static METADATA: Key<Switch> = Key {
    name: "metadata",
    kind: Switch,
    default: "true",
    about: "Whether guests may read anything. false: every path answers 403, as EC2's with HttpEndpoint disabled.",
    reason: "Without metadata most images get neither keys nor user data.",
};

static IPV6: Key<Switch> = Key {
    name: "ipv6",
    kind: Switch,
    default: "true",
    about: "Whether guests may ask over IPv6. false: every request over IPv6 is answered with 403.",
    reason: "Guests without IPv4 have no other way.",
};

static EC2: Key<Switch> = Key {
    name: "ec2",
    kind: Switch,
    default: "true",
    about: "Whether there is the EC2 tree beside OpenStack's. false: its paths, `/` included, answer 404.",
    reason: "Facter, Ohai, older images and cloud-init's OpenStack source read it.",
};

static USER_DATA: Key<Choice<UserData>> = Key {
    name: "user_data",
    kind: Choice(&UserData::NAMES),
    default: "\"always\"",
    about: "When guests may read their user data. \"first-boot\": until `access.first_boot` after the first read, then its \
            paths answer 404; readable again when user data or image change in the document, when the document is deleted \
            and written again, and after `metadatad instance user-data reset UUID`. The snapshot keeps when it was read. \
            \"never\": 404.",
    reason: "Some guests read their user data at every boot; whether one does, only its owner knows.",
};

static FIRST_BOOT: Key<Timeout> = Key {
    name: "first_boot",
    kind: TIMEOUT,
    default: "\"15m\"",
    about: "How long a first boot lasts, from the first read of the user data: see `access.user_data`. In whole seconds.",
    reason: "cloud-init reads it more than once in a boot, with minutes between them where packages are installed first.",
};

static PRIVILEGED: Key<List<Choice<PrivilegedPaths>>> = Key {
    name: "privileged",
    kind: List(Choice(&PrivilegedPaths::NAMES)),
    default: "[]",
    about: "What is answered to source ports below 1024 alone, which only root has in a Linux guest; other ports get 403. \
            \"identity\": dynamic vendor data, identity tokens and `dynamic/`; \"token\": the request for a session token. `metadatad access` \
            counts what would be refused.",
    reason: "Most clients use any port: of those known, systemd-imdsd alone uses one below 1024, but not for tokens.",
};

static SESSION: Key<Choice<SessionMode>> = Key {
    name: "session",
    kind: Choice(&SessionMode::NAMES),
    default: "\"off\"",
    about: "Session tokens, as of EC2's IMDSv2. \"off\": `PUT /latest/api/token` is Nova's 404. \"optional\": it issues one, and a \
            request needs none. \"required\": a request without one is answered with 401. `metadatad access` lists who comes without.",
    reason: "Nova has none, and clients such as Ohai go by its 404.",
};

static HOP_LIMIT_KEY: Key<Number<u8>> = Key {
    name: "hop_limit",
    kind: Number { least: 1, most: HOP_LIMIT },
    default: "64",
    about: "Hop limit (TTL with IPv4) of the answer that has a session token, and of all that follows on its connection. 1 reaches the \
            guest itself, and no container behind its routing.",
    reason: "As every answer; a router between a guest's network and its containers takes one off.",
};

pub(super) fn read(table: &Reader<'_>) -> Result<Access, Refusal> {
    Ok(Access {
        metadata: table.value(&METADATA)?,
        ipv6: table.value(&IPV6)?,
        ec2: table.value(&EC2)?,
        user_data: table.value(&USER_DATA)?,
        first_boot: table.value(&FIRST_BOOT)?,
        privileged: table.value(&PRIVILEGED)?.into_inner().into_iter().map(toml::Spanned::into_inner).collect(),
        session: table.value(&SESSION)?,
        hop_limit: table.value(&HOP_LIMIT_KEY)?,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::tests::{read, refuses};

    #[test]
    fn values_are_taken_as_written() {
        let text = "[access]\nmetadata = false\nipv6 = false\nec2 = false\nuser_data = 'first-boot'\nfirst_boot = '5m'\n\
                    privileged = ['token', 'user_data']\nsession = 'required'\nhop_limit = 2\n";
        let expected = Access {
            metadata: false,
            ipv6: false,
            ec2: false,
            user_data: UserData::FirstBoot,
            first_boot: Duration::from_secs(300),
            privileged: PrivilegedPaths::TOKEN.and(PrivilegedPaths::USER_DATA),
            session: SessionMode::Required,
            hop_limit: 2,
        };
        assert_eq!(read(text).expect("accepted").access, expected);
        assert_eq!(read("").expect("accepted").access, Access::default(), "two places have the defaults");
    }

    #[test]
    fn refusals_name_place_and_remedy() {
        refuses(&[
            ("[access]\nmetadata = 'off'", "m.toml:2:12", "invalid type", "write a value"),
            ("[access]\nuser_data = 'once'", "m.toml:2:13", "`once` is not known", "use \"always\" or \"first-boot\""),
            (
                "[access]\nprivileged = ['root']",
                "m.toml:2:15",
                "`root` is not known",
                "\"everything\" or \"user_data\"",
            ),
            ("[access]\nsession = 'on'", "m.toml:2:11", "`on` is not known", "\"optional\" or \"required\""),
            ("[access]\nhop_limit = 0", "m.toml:2:13", "0 is out of range", "use 1 to 64"),
            ("[access]\nfirst_boot = '0s'", "m.toml:2:14", "not a possible time-out", "10s"),
        ]);
    }
}
