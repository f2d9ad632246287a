//! Names in the environment: which ones Kubernetes puts there by itself, and which right one a wrong one meant.

/// Whether Kubernetes injects `MOONGATE_<name>` into every pod beside a service called `moongate` (the service links of
/// <https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>): nobody wrote it, so
/// nobody is told about it.
pub(super) fn injected_by_kubernetes(name: &str) -> bool {
    if matches!(name, "SERVICE_HOST" | "SERVICE_PORT" | "PORT") {
        return true;
    }
    if let Some(port_name) = name.strip_prefix("SERVICE_PORT_") {
        return !port_name.is_empty();
    }
    name.strip_prefix("PORT_").is_some_and(is_port_link)
}

/// The part after `PORT_`: `8080_TCP`, or that with `_PROTO`, `_PORT` or `_ADDR` behind it.
fn is_port_link(link: &str) -> bool {
    let mut parts = link.split('_');
    let number = parts.next().is_some_and(|port| port.parse::<u16>().is_ok());
    let protocol = matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"));
    let property = matches!(parts.next(), None | Some("PROTO" | "PORT" | "ADDR"));
    number && protocol && property && parts.next().is_none()
}

/// The member of `known` that takes the fewest edits to become from `name`; the first of several.
pub(super) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    known.min_by_key(|candidate| edits(name, candidate))
}

/// The Levenshtein distance: how many bytes must be inserted, removed or replaced.
fn edits(from: &str, to: &str) -> usize {
    let to = to.as_bytes();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (above, &left) in from.as_bytes().iter().enumerate() {
        let mut diagonal = above;
        row[0] = above + 1;
        for (column, &right) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_kubernetes() {
        let check = |name: &str, expect: bool| assert_eq!(injected_by_kubernetes(name), expect, "{name}");
        for injected in [
            "SERVICE_HOST",
            "SERVICE_PORT",
            "SERVICE_PORT_HTTP",
            "SERVICE_PORT_CONTROL_API",
            "PORT",
            "PORT_8080_TCP",
            "PORT_8080_TCP_PROTO",
            "PORT_8080_TCP_PORT",
            "PORT_8080_TCP_ADDR",
            "PORT_53_UDP",
            "PORT_53_UDP_ADDR",
        ] {
            check(injected, true);
        }
        for ours in [
            "",
            "LISTEN",
            "SERVICE",
            "SERVICE_PORT_",
            "PORTS",
            "PORT_",
            "PORT_8080",
            "PORT_HTTP_TCP",
            "PORT_80800_TCP",
            "PORT_8080_ICMP",
            "PORT_8080_TCP_NAME",
            "PORT_8080_TCP_ADDR_X",
        ] {
            check(ours, false);
        }
    }

    #[test]
    fn edit_distances() {
        let check = |from: &str, to: &str, expect: usize| assert_eq!(edits(from, to), expect, "{from} {to}");
        check("", "", 0);
        check("", "ABC", 3);
        check("ABC", "", 3);
        check("LISTEN", "LISTEN", 0);
        check("LISTN", "LISTEN", 1);
        check("LISTENS", "LISTEN", 1);
        check("LUSTEN", "LISTEN", 1);
        check("KITTEN", "SITTING", 3);
    }

    #[test]
    fn nearest_names() {
        let known = ["LISTEN", "LISTEN_SHARED", "PING_INTERVAL", "PONG_TIMEOUT", "LOG"];
        let check =
            |name: &str, expect: &str| assert_eq!(nearest(name, known.into_iter()), Some(expect), "{name}");
        check("LISTN", "LISTEN");
        check("PING_INTERVALL", "PING_INTERVAL");
        check("PONG_TIME_OUT", "PONG_TIMEOUT");
        check("LOGS", "LOG");
        assert_eq!(nearest("LISTEN", std::iter::empty()), None);
    }
}
