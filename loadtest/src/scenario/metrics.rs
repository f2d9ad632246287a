//! What the server says of itself, at its control listener.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// All its metrics at one moment, in Prometheus' words.
pub(super) struct Metrics(String);

impl Metrics {
    /// Asks the control listener at `address`; none if it does not answer.
    pub(super) fn read(address: SocketAddr) -> Option<Metrics> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(Metrics(answer))
    }

    /// The sum of a metric over all labels, such as one for each shard; none where there is no such metric.
    pub(super) fn sum(&self, name: &str) -> Option<u64> {
        let values = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            if !rest.starts_with([' ', '{']) {
                return None;
            }
            rest.rsplit_once(' ')?.1.trim().parse::<f64>().ok()
        });
        values.reduce(|one, other| one + other).map(|sum| sum as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_shards() {
        const NAME: &str = "moongate_connections";
        let check = |text: &str, expect| assert_eq!(Metrics(text.to_owned()).sum(NAME), expect, "{text}");
        check("# HELP moongate_connections Some.\nmoongate_connections 7\n", Some(7));
        check("moongate_connections{shard=\"0\"} 3\nmoongate_connections{shard=\"1\"} 4\n", Some(7));
        check("moongate_connections_max 100\n", None);
        check("", None);
    }
}
