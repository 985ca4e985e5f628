//! What `ossutil stat` shows of an object.

use std::collections::BTreeMap;

use super::OssStore;
use crate::error::{ErrorKind, Result};
use crate::types::ObjectKey;

impl OssStore {
    /// An object's headers as `ossutil stat` names and sorts them, its ACL and owner included: `ACL`, `Accept-Ranges`,
    /// `Content-Length`, `Etag` (without quotes) and so on. Where the ACL may not be read, `ACL` and `Owner` are left out. Dates are as OSS
    /// sends them, in GMT.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no object.
    pub async fn stat(&self, key: &ObjectKey) -> Result<BTreeMap<String, String>> {
        let object = self.head_object(key).await?;
        let mut stat = BTreeMap::new();
        for (name, value) in &object.headers {
            // What is about the answer, not the object.
            let name = match name.as_str() {
                "date" | "server" | "connection" | "x-oss-request-id" | "x-oss-server-time" => continue,
                name => capitalised(name),
            };
            let value = String::from_utf8_lossy(value.as_bytes());
            let value = if name == "Etag" { value.trim_matches('"') } else { &value };
            stat.insert(name, value.to_owned());
        }
        match self.get_object_acl(key).await {
            Ok(acl) => {
                stat.insert("ACL".to_owned(), acl.grant);
                stat.insert("Owner".to_owned(), acl.owner);
            }
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
        Ok(stat)
    }
}

/// `x-oss-meta-a` as `X-Oss-Meta-A`: each word with a capital, as Go writes headers.
fn capitalised(name: &str) -> String {
    let mut at_start = true;
    name.chars()
        .map(|c| {
            let c = if at_start { c.to_ascii_uppercase() } else { c };
            at_start = c == '-';
            c
        })
        .collect()
}
