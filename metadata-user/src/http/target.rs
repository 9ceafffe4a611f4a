//! What a request asks for, in any form that a request target has (RFC 9112, section 3.2).

use hyper::{Method, Uri};

/// A target that names no path. Nova's application knows none that does not begin with `/`.
const NO_PATH: &str = "*";

/// Returns path and query of a request's target; [`NO_PATH`] if it names none.
///
/// Of the absolute form, `http` and `https` are taken off, as uWSGI does. The authority form, with whatever method, names
/// a host; so does whatever CONNECT asks for, since a success would confirm a tunnel (RFC 9110, section 9.3.6).
pub(super) fn of<'a>(method: &Method, uri: &'a Uri) -> &'a str {
    if *method == Method::CONNECT || uri.scheme_str().is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
        return NO_PATH;
    }
    uri.path_and_query().map_or(NO_PATH, |target| target.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_path_names_something() {
        for (method, target, expected) in [
            ("GET", "/", "/"),
            ("GET", "/openstack/latest?a=b", "/openstack/latest?a=b"),
            ("GET", "*", "*"),
            ("OPTIONS", "*", "*"),
            ("GET", "http://169.254.169.254/latest", "/latest"),
            ("GET", "HTTPS://x:1/latest", "/latest"),
            ("GET", "http://169.254.169.254", "/"),
            ("GET", "ftp://169.254.169.254/latest", "*"),
            ("GET", "169.254.169.254:80", "*"),
            ("GET", "latest", "*"),
            ("CONNECT", "169.254.169.254:80", "*"),
            ("CONNECT", "example.org", "*"),
            ("CONNECT", "/openstack", "*"),
            ("CONNECT", "http://169.254.169.254/openstack", "*"),
        ] {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            let uri: Uri = target.parse().expect("a target that hyper takes");
            assert_eq!(of(&method, &uri), expected, "{method} {target}");
        }
    }
}
