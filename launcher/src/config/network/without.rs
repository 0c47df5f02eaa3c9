//! In place of `--net bridge=NAME,…` and `macvlan=LINK,…`, where kontena is built without links to the host.

use crate::config::network::Net;
use crate::error::Parsed;

/// Refuses them.
pub fn linked(_: &str, _: &str) -> Parsed<Net> {
    Err("this kontena was built without `net`")
}
