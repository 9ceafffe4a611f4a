//! The document's scalars: texts that are checked as they are read, so that an error has their place.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::str::FromStr;

use bytes::Bytes;
use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, IntoDeserializer as _, MapAccess, Visitor};
use uuid::Uuid;

use super::error::refusal;
use super::excerpt::quoted;
use crate::base64;
use crate::record::{Address, MacAddress};
use crate::secret;

/// A scalar that is written as text.
macro_rules! text_value {
    ($(#[$doc:meta])* $name:ident($inner:ty), $expecting:literal, $schema:tt, $read:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub(super) struct $name(pub(super) $inner);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: Error>(self, text: &str) -> Result<$name, E> {
                        let read: fn(&str) -> Result<$inner, String> = $read;
                        read(text).map($name).map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

text_value! {
    /// A UUID with its dashes.
    UuidText(Uuid),
    "a UUID in quotes",
    {"type": "string", "format": "uuid", "pattern": "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"},
    |text| match Uuid::try_parse(text) {
        Ok(uuid) if text.len() == 36 => Ok(uuid),
        _ => Err(refusal(
            format!("{} is not a UUID", quoted(text)),
            "write 32 hex digits with dashes, like 0171c6ae-ed6b-4787-bf6b-45a1db501aa3",
        )),
    }
}

text_value! {
    /// A MAC address.
    MacText(MacAddress),
    "a MAC address in quotes",
    {"type": "string", "pattern": "^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$"},
    |text| MacAddress::from_str(text).map_err(|_| refusal(
        format!("{} is not a MAC address", quoted(text)),
        "write six pairs of hex digits with colons between, like fa:16:3e:00:00:01",
    ))
}

text_value! {
    /// An IPv4 or IPv6 address.
    IpText(Address),
    "an IP address in quotes",
    {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]},
    |text| text.parse().map_err(|_| refusal(
        format!("{} is not an IP address", quoted(text)),
        "write an IPv4 or IPv6 address without a prefix length",
    ))
}

text_value! {
    /// A network: an address and a prefix length.
    CidrText(IpNet),
    "a CIDR in quotes",
    {"type": "string", "pattern": "^[0-9a-fA-F.:]+/[0-9]{1,3}$"},
    |text| text.parse().map_err(|_| refusal(
        format!("{} is not a CIDR", quoted(text)),
        "write an address, a slash and a prefix length, like 10.0.0.0/24",
    ))
}

text_value! {
    /// An address or a network.
    AddressOrCidrText(IpNet),
    "an IP address or a CIDR in quotes",
    {"type": "string", "pattern": "^[0-9a-fA-F.:]+(/[0-9]{1,3})?$"},
    |text| text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| refusal(
        format!("{} is neither an IP address nor a CIDR", quoted(text)),
        "write one like 10.0.0.9 or 10.0.0.0/28",
    ))
}

text_value! {
    /// Bytes in base64.
    Base64Text(Bytes),
    "base64 in quotes",
    {"type": "string", "contentEncoding": "base64"},
    |text| base64::decode(text).map(secret::shared).map_err(|error| refusal(
        format!("not base64: {error}"),
        "encode the bytes with `base64 -w0`, or use \"user_data\" for plain text",
    ))
}

text_value! {
    /// A text that is not empty.
    NonEmptyText(Box<str>),
    "a text in quotes",
    {"type": "string", "minLength": 1},
    |text| if text.is_empty() {
        Err(refusal("the text is empty", "write one, or leave the field out if it is optional"))
    } else {
        Ok(text.into())
    }
}

/// Keys and values in the order they are written.
#[derive(Clone, Debug, Default)]
pub(super) struct Metadata(pub(super) Vec<(Box<str>, Box<str>)>);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Metadata;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut pairs: Vec<(Box<str>, Box<str>)> = Vec::new();
                let mut seen = std::collections::HashSet::new();
                while let Some(key) = map.next_key::<Box<str>>()? {
                    if !seen.insert(key.clone()) {
                        let problem = format!("the key {} occurs twice", quoted(&key));
                        return Err(A::Error::custom(refusal(problem, "keep one of them")));
                    }
                    pairs.push((key, map.next_value()?));
                }
                Ok(Metadata(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

impl JsonSchema for Metadata {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Metadata".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "object", "additionalProperties": {"type": "string"}})
    }
}

/// Reads a field in which `null` is a value of its own, unlike an absent field: with `#[serde(default)]`, the outer `Option`
/// is "present".
pub(super) fn nullable<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

/// Reads a field in which `null` is the same as an absent field.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Reads a switch that is on unless it is off; `null` is the same as an absent field.
pub(super) fn or_true<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Option::deserialize(deserializer).map(|given| given.unwrap_or(true))
}

/// One of the texts that name a variant. serde_json by itself takes anything but a text here for broken JSON.
struct Choice<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Choice<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Text<T> {
            type Value = Choice<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text in quotes")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Choice<T>, E> {
                T::deserialize(text.into_deserializer()).map(Choice)
            }
        }
        deserializer.deserialize_str(Text(PhantomData))
    }
}

/// Reads a field with one of several texts.
pub(super) fn choice<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Choice::deserialize(deserializer).map(|choice| choice.0)
}

/// Reads an optional field with one of several texts.
pub(super) fn optional_choice<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::<Choice<T>>::deserialize(deserializer).map(|choice| choice.map(|choice| choice.0))
}

/// Reads a field with one of several texts, of which one is the default; `null` is the same as an absent field.
pub(super) fn choice_or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    optional_choice(deserializer).map(Option::unwrap_or_default)
}
