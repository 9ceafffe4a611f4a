//! `[keystone]`: how the controller authenticates to OpenStack, and what it trusts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::openstack::ENDPOINT;
use crate::config::key::{Key, OptionalKey, Table};
use crate::config::kind::{AbsolutePath, Choice, TIMEOUT, Text, Timeout};
use crate::config::refusal::{Fault, Refusal};
use crate::config::target::TargetUrl;
use crate::config::written::Reader;

/// `[keystone]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keystone {
    /// Keystone's API, without a slash at its end.
    pub auth_url: TargetUrl,
    /// Who the controller is.
    pub credential: Credential,
    /// Region of the endpoints in the catalogue; `None`: any.
    pub region: Option<String>,
    /// Which endpoints of the catalogue are used.
    pub interface: Interface,
    /// Certificates of the authorities that are trusted for https, by all three APIs; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// The controller's client certificate, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Longest time until a connection is established.
    pub connect_timeout: Duration,
    /// Longest time from a request to the end of its answer.
    pub read_timeout: Duration,
}

/// Who the controller is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// An application credential.
    Application {
        /// Its id.
        id: String,
        /// File that holds its secret.
        secret_file: PathBuf,
    },
    /// A user with a password, in a project.
    Password {
        /// The user's name.
        username: String,
        /// The name of the user's domain.
        user_domain: String,
        /// The project's name.
        project: String,
        /// The name of the project's domain.
        project_domain: String,
        /// File that holds the password.
        password_file: PathBuf,
    },
}

/// Interfaces of endpoints in a catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// For services of the cloud.
    Internal,
    /// For everybody.
    Public,
    /// For administrators.
    Admin,
}

impl Interface {
    /// Returns its name in the catalogue.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Public => "public",
            Self::Admin => "admin",
        }
    }
}

impl Keystone {
    /// Returns the file that holds the secret, and the key that names it.
    #[must_use]
    pub fn secret_file(&self) -> (&'static str, &Path) {
        match &self.credential {
            Credential::Application { secret_file, .. } => ("keystone.application_credential_secret_file", secret_file),
            Credential::Password { password_file, .. } => ("keystone.password_file", password_file),
        }
    }

    /// Describes settings that are accepted but unsafe.
    pub(super) fn warnings(&self) -> Vec<String> {
        let is_local = ["127.0.0.1", "::1", "localhost"].contains(&&*self.auth_url.host);
        let warning = "keystone.auth_url: the secret goes over http, where others may read it: use an https URL";
        if self.auth_url.tls || is_local { Vec::new() } else { vec![warning.to_owned()] }
    }
}

pub(super) static TABLE: Table = Table {
    name: "keystone",
    about: "How the controller authenticates to OpenStack: by an application credential, or as a user. It lists instances, \
            migrations and ports of all projects, as Nova's and Neutron's policies allow the role `admin`.",
    keys: &[
        &AUTH_URL,
        &APPLICATION_CREDENTIAL_ID,
        &APPLICATION_CREDENTIAL_SECRET_FILE,
        &USERNAME,
        &PASSWORD_FILE,
        &USER_DOMAIN,
        &PROJECT,
        &PROJECT_DOMAIN,
        &REGION,
        &INTERFACE,
        &CA_FILE,
        &CERT_FILE,
        &KEY_FILE,
        &CONNECT_TIMEOUT,
        &READ_TIMEOUT,
    ],
    tables: &[],
    is_optional: true,
    live: &[],
};

static AUTH_URL: OptionalKey<Text<TargetUrl>> = OptionalKey {
    name: "auth_url",
    kind: ENDPOINT,
    unset: "required",
    example: "\"https://keystone.example:5000/v3\"",
    about: "Keystone's API, version 3.",
};

static APPLICATION_CREDENTIAL_ID: OptionalKey<Text<String>> = OptionalKey {
    name: "application_credential_id",
    kind: WORD,
    unset: "a user with a password",
    example: "\"b1c7e3a0d5f64c1e9a52d0c4a1f0e2b7\"",
    about: "Id of an application credential. Needs `application_credential_secret_file`.",
};

static APPLICATION_CREDENTIAL_SECRET_FILE: OptionalKey<AbsolutePath> = OptionalKey {
    name: "application_credential_secret_file",
    kind: AbsolutePath::Any,
    unset: "a user with a password",
    example: "\"/etc/metadatad/controller/application_credential_secret\"",
    about: "File (mode 0600) that holds its secret. It is read at each authentication.",
};

static USERNAME: OptionalKey<Text<String>> = OptionalKey {
    name: "username",
    kind: WORD,
    unset: "an application credential",
    example: "\"metadatad\"",
    about: "Name of the user. Needs `password_file`.",
};

static PASSWORD_FILE: OptionalKey<AbsolutePath> = OptionalKey {
    name: "password_file",
    kind: AbsolutePath::Any,
    unset: "an application credential",
    example: "\"/etc/metadatad/controller/keystone_password\"",
    about: "File (mode 0600) that holds the user's password. It is read at each authentication.",
};

static USER_DOMAIN: Key<Text<String>> = Key {
    name: "user_domain",
    kind: WORD,
    default: "\"Default\"",
    about: "Name of the user's domain.",
    reason: "Keystone's own.",
};

static PROJECT: Key<Text<String>> = Key {
    name: "project",
    kind: WORD,
    default: "\"service\"",
    about: "Name of the project in which the user has its role.",
    reason: "Where the other services have theirs.",
};

static PROJECT_DOMAIN: Key<Text<String>> = Key {
    name: "project_domain",
    kind: WORD,
    default: "\"Default\"",
    about: "Name of the project's domain.",
    reason: "Keystone's own.",
};

static REGION: OptionalKey<Text<String>> = OptionalKey {
    name: "region",
    kind: WORD,
    unset: "the catalogue's only region",
    example: "\"RegionOne\"",
    about: "Region of the endpoints that are used. One controller serves one region.",
};

static INTERFACE: Key<Choice<Interface>> = Key {
    name: "interface",
    kind: Choice(&[("internal", Interface::Internal), ("public", Interface::Public), ("admin", Interface::Admin)]),
    default: "\"internal\"",
    about: "Which endpoints of the catalogue are used.",
    reason: "The controller runs beside the other services.",
};

static CA_FILE: OptionalKey<AbsolutePath> = OptionalKey {
    name: "ca_file",
    kind: AbsolutePath::Any,
    unset: "the system's certificate authorities",
    example: "\"/etc/metadatad/controller/openstack-ca.pem\"",
    about: "Certificates (PEM) of the authorities that are trusted for https, by Keystone, Nova and Neutron.",
};

static CERT_FILE: OptionalKey<AbsolutePath> = OptionalKey {
    name: "cert_file",
    kind: AbsolutePath::Any,
    unset: "no client certificate",
    example: "\"/etc/metadatad/controller/client.pem\"",
    about: "The controller's certificate (PEM), where one is asked for. Needs `key_file`.",
};

static KEY_FILE: OptionalKey<AbsolutePath> = OptionalKey {
    name: "key_file",
    kind: AbsolutePath::Any,
    unset: "no client certificate",
    example: "\"/etc/metadatad/controller/client-key.pem\"",
    about: "Private key (PEM) of that certificate. Needs `cert_file`.",
};

static CONNECT_TIMEOUT: Key<Timeout> = Key {
    name: "connect_timeout",
    kind: TIMEOUT,
    default: "\"3s\"",
    about: "Longest time until a connection is established.",
    reason: "A service in the same data centre connects in milliseconds, or not at all.",
};

static READ_TIMEOUT: Key<Timeout> = Key {
    name: "read_timeout",
    kind: TIMEOUT,
    default: "\"60s\"",
    about: "Longest time from a request to the end of its answer.",
    reason: "A page of servers takes Nova seconds; beyond a minute, proxies before it have given up.",
};

const WORD: Text<String> = Text { what: "not empty", check: word };

fn word(text: &str) -> Result<String, Fault> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(Fault::new(format!("`{text}` is not a possible name"), "write a name without control characters"));
    }
    Ok(text.to_owned())
}

pub(super) fn read(table: &Reader<'_>) -> Result<Keystone, Refusal> {
    let required = |problem, remedy| Fault::new(problem, remedy).at(table.span());
    let auth_url = table.optional(&AUTH_URL)?.ok_or_else(|| {
        required("no URL of Keystone", "write keystone.auth_url, for example \"https://keystone.example:5000/v3\"")
    })?;
    let application = table.both(&APPLICATION_CREDENTIAL_ID, &APPLICATION_CREDENTIAL_SECRET_FILE)?;
    let credential = match (application, table.both(&USERNAME, &PASSWORD_FILE)?) {
        (Some((id, secret_file)), None) => Credential::Application { id, secret_file },
        (None, Some((username, password_file))) => Credential::Password {
            username,
            user_domain: table.value(&USER_DOMAIN)?,
            project: table.value(&PROJECT)?,
            project_domain: table.value(&PROJECT_DOMAIN)?,
            password_file,
        },
        (Some(_), Some(_)) => {
            let fault = Fault::new("an application credential and a user", "write one of the two");
            return Err(fault.at(table.span_of(USERNAME.name).unwrap_or_default()));
        }
        (None, None) => {
            return Err(required(
                "no credential for Keystone",
                "write keystone.application_credential_id and keystone.application_credential_secret_file, or keystone.username \
                 and keystone.password_file",
            ));
        }
    };
    Ok(Keystone {
        auth_url,
        credential,
        region: table.optional(&REGION)?,
        interface: table.value(&INTERFACE)?,
        ca_file: table.optional(&CA_FILE)?,
        identity: table.both(&CERT_FILE, &KEY_FILE)?,
        connect_timeout: table.value(&CONNECT_TIMEOUT)?,
        read_timeout: table.value(&READ_TIMEOUT)?,
    })
}
