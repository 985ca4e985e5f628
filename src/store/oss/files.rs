//! Configuration files of Alibaba Cloud's own tools: ossutil's `~/.ossutilconfig` and the CLI's `~/.aliyun/config.json`.
//!
//! Sources: [configure ossutil](https://www.alibabacloud.com/help/en/oss/developer-reference/configure-ossutil2),
//! [Alibaba Cloud CLI, profiles](https://www.alibabacloud.com/help/en/cli/configure-credentials).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use super::credentials::Credentials;
use crate::error::{Error, ErrorKind, Result};

/// How often a profile may refer to another.
const MAX_REFERENCES: usize = 8;

/// What a profile says.
#[derive(Default)]
pub(super) struct Settings {
    pub(super) credentials: Option<Credentials>,
    pub(super) endpoint: Option<String>,
    pub(super) region: Option<String>,
}

/// The files, and which profile of each is meant if the caller names none.
pub(super) struct Files {
    pub(super) ossutil: Option<PathBuf>,
    pub(super) ossutil_profile: Option<String>,
    pub(super) aliyun: Option<PathBuf>,
    pub(super) aliyun_profile: Option<String>,
}

impl Files {
    /// Where the tools look: below the home directory, unless the environment says otherwise.
    pub(super) fn of_user() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let below_home =
            |path| std::env::home_dir().filter(|home| !home.as_os_str().is_empty()).map(|home| home.join(path));
        Self {
            ossutil: variable("OSSUTIL_CONFIG_FILE").map(PathBuf::from).or_else(|| below_home(".ossutilconfig")),
            ossutil_profile: variable("OSSUTIL_PROFILE"),
            aliyun: below_home(".aliyun/config.json"),
            aliyun_profile: variable("ALIBABA_CLOUD_PROFILE").or_else(|| variable("ALIBABACLOUD_PROFILE")),
        }
    }

    /// What the profile `name` says, or the one that is meant without a name, of `bucket`: ossutil's if it has one, else the CLI's.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if there is no profile of that name, a file is none, or a profile takes its credentials in a way that
    /// this crate does not.
    pub(super) fn settings(&self, name: Option<&str>, bucket: &str) -> Result<Settings> {
        if let Some(path) = &self.ossutil
            && let Some(text) = read(path)?
        {
            let name = name.or(self.ossutil_profile.as_deref());
            if let Some(settings) = of_ossutil(&text, name, bucket, path)? {
                return Ok(settings);
            }
        }
        if let Some(path) = &self.aliyun
            && let Some(text) = read(path)?
        {
            let name = name.or(self.aliyun_profile.as_deref());
            if let Some(settings) = of_aliyun(&text, name, path)? {
                return Ok(settings);
            }
        }
        match name.or(self.ossutil_profile.as_deref()) {
            None => Ok(Settings::default()),
            Some(name) => {
                let message = format!("there is no profile {name:?} in ~/.ossutilconfig, nor in ~/.aliyun/config.json");
                Err(Error::new(ErrorKind::InvalidInput, message))
            }
        }
    }
}

/// A file's text, wiped after use. `None` if there is no file.
fn read(path: &Path) -> Result<Option<Zeroizing<String>>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(Error::io(format!("reading {}", path.display()), error)),
    }
}

/// A section of ossutil's file: its name in lower case, and names and values.
struct Section<'a> {
    name: String,
    pairs: Vec<(String, &'a str)>,
}

impl<'a> Section<'a> {
    /// Names are the same with and without capitals, `-` and `_`. Those of buckets are not: there `-` counts.
    fn get(&self, name: &str) -> Option<&'a str> {
        let plain = |text: &str| text.replace(['-', '_'], "");
        self.pairs.iter().find(|(key, value)| plain(key) == name && !value.is_empty()).map(|(_, value)| *value)
    }
}

fn sections(text: &str) -> Vec<Section<'_>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            let words: Vec<_> = name.split_whitespace().map(str::to_ascii_lowercase).collect();
            sections.push(Section { name: words.join(" "), pairs: Vec::new() });
        } else if let (Some((key, value)), Some(section)) = (line.split_once('='), sections.last_mut()) {
            section.pairs.push((key.trim().to_ascii_lowercase(), value.trim()));
        }
    }
    sections
}

fn of_ossutil(text: &str, name: Option<&str>, bucket: &str, path: &Path) -> Result<Option<Settings>> {
    let sections = sections(text);
    let find = |wanted: &str| sections.iter().find(|section| section.name == wanted);
    let profile = |name: &str| {
        let name = name.to_ascii_lowercase();
        let short = find(&name).filter(|_| name == "default");
        // Version 1 of ossutil knew one set only.
        let old = || find("credentials").filter(|_| name == "default");
        short.or_else(|| find(&format!("profile {name}"))).or_else(old)
    };
    let called = name.unwrap_or("default");
    let Some(section) = profile(called) else { return Ok(None) };
    let invalid = |what: String| Error::new(ErrorKind::InvalidInput, format!("{}: {what}", path.display()));
    let mut chain = vec![section];
    while let Some(source) = chain.last().and_then(|section| section.get("sourceprofile")) {
        let next =
            profile(source).ok_or_else(|| invalid(format!("there is no profile {source:?}, which another names")))?;
        if chain.len() == MAX_REFERENCES {
            return Err(invalid("its profiles refer to each other in circles".to_owned()));
        }
        chain.push(next);
    }
    let get = |name: &str| chain.iter().find_map(|section| section.get(name));
    let mode = get("mode").unwrap_or("AK");
    if !["ak", "ststoken"].contains(&mode.to_ascii_lowercase().as_str()) {
        return Err(invalid(unknown_mode(called, mode)));
    }
    let credentials = match (get("accesskeyid"), get("accesskeysecret")) {
        (Some(id), Some(secret)) => {
            let source = format!("the profile {called:?} in {}", path.display());
            Some(Credentials::new(id, secret, get("ststoken")).found_in(source))
        }
        _ => None,
    };
    let of_bucket = find("bucket-endpoint").and_then(|section| {
        section.pairs.iter().find(|(name, value)| name == bucket && !value.is_empty()).map(|(_, value)| *value)
    });
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let endpoint = owned(of_bucket.or_else(|| get("endpoint")));
    Ok(Some(Settings { credentials, endpoint, region: owned(get("region")) }))
}

fn unknown_mode(profile: &str, mode: &str) -> String {
    format!(
        "the profile {profile:?} takes its credentials by {mode:?}, which only Alibaba Cloud's tools can: use a profile of the mode AK or \
         StsToken, or set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET"
    )
}

/// Wiped when dropped, also where it is not used.
#[derive(Default)]
struct Secret(Zeroizing<String>);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

#[derive(Deserialize)]
struct Aliyun {
    #[serde(default)]
    current: String,
    #[serde(default)]
    profiles: Vec<AliyunProfile>,
}

#[derive(Deserialize)]
struct AliyunProfile {
    name: String,
    #[serde(default)]
    mode: String,
    #[serde(default)]
    access_key_id: String,
    #[serde(default)]
    access_key_secret: Secret,
    #[serde(default)]
    sts_token: Secret,
    #[serde(default)]
    region_id: String,
}

fn of_aliyun(text: &str, name: Option<&str>, path: &Path) -> Result<Option<Settings>> {
    let invalid = |what: String| Error::new(ErrorKind::InvalidInput, format!("{}: {what}", path.display()));
    // The parser's own message could quote a secret.
    let file: Aliyun = serde_json::from_str(text)
        .map_err(|e| invalid(format!("it is not the configuration of Alibaba Cloud's CLI, in line {}", e.line())))?;
    let current = if file.current.is_empty() { "default" } else { &file.current };
    let called = name.unwrap_or(current);
    let Some(profile) = file.profiles.iter().find(|profile| profile.name == called) else { return Ok(None) };
    let token = match profile.mode.as_str() {
        "" | "AK" => None,
        "StsToken" => Some(profile.sts_token.0.as_str()).filter(|token| !token.is_empty()),
        mode => return Err(invalid(unknown_mode(called, mode))),
    };
    let has_key = !profile.access_key_id.is_empty() && !profile.access_key_secret.0.is_empty();
    let credentials = has_key.then(|| {
        let source = format!("the profile {called:?} in {}", path.display());
        Credentials::new(&profile.access_key_id, profile.access_key_secret.0.as_str(), token).found_in(source)
    });
    let region = Some(profile.region_id.clone()).filter(|region| !region.is_empty());
    Ok(Some(Settings { credentials, endpoint: None, region }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(ossutil: Option<&str>, aliyun: Option<&str>, name: Option<&str>) -> Result<Settings> {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: Option<&str>| {
            let path = dir.path().join(name);
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            Some(path)
        };
        let files = Files {
            ossutil: file("ossutilconfig", ossutil),
            ossutil_profile: None,
            aliyun: file("config.json", aliyun),
            aliyun_profile: None,
        };
        files.settings(name, "bkt-1")
    }

    fn told(settings: Result<Settings>) -> [Option<String>; 5] {
        let Settings { credentials, endpoint, region } = settings.unwrap();
        let of = |get: fn(&Credentials) -> Option<String>| credentials.as_ref().and_then(get);
        [
            of(|c| Some(c.id().to_owned())),
            of(|c| Some(c.secret().to_owned())),
            of(|c| c.token().map(str::to_owned)),
            endpoint,
            region,
        ]
    }

    fn texts(texts: [&str; 5]) -> [Option<String>; 5] {
        texts.map(|text| Some(text.to_owned()).filter(|text| !text.is_empty()))
    }

    const OLD: &str = "[Credentials]\nlanguage=EN\nendpoint=oss-cn-x.aliyuncs.com\naccessKeyID = id1\naccessKeySecret=s=1\nstsToken=t1\n\
                       [Bucket-Endpoint]\nbkt-1=oss-cn-y.aliyuncs.com\n";
    const NEW: &str = "# ossutil 2\n[default]\nAccess-Key-Id=id2\naccess_key_secret=s2\nregion=cn-a\n\
                       [profile Dev]\naccessKeyID=id3\naccessKeySecret=s3\nmode=StsToken\nsts-token=t3\nregion=cn-b\nendpoint=https://e\n\
                       [profile heir]\nsource_profile=dev\nregion=cn-c\n[profile role]\nmode=EcsRamRole\n[profile loop]\nsource_profile=loop\n";
    const CLI: &str = r#"{"current":"work","profiles":[{"name":"default","mode":"AK","access_key_id":"id4","access_key_secret":"s4"},
        {"name":"work","mode":"StsToken","access_key_id":"id5","access_key_secret":"s5","sts_token":"t5","region_id":"cn-d","other":{}},
        {"name":"role","mode":"RamRoleArn","access_key_id":"id6","access_key_secret":"s6"}]}"#;

    #[test]
    fn profiles_are_found_as_alibabas_tools_find_them() {
        assert_eq!(told(settings(Some(OLD), None, None)), texts(["id1", "s=1", "t1", "oss-cn-y.aliyuncs.com", ""]));
        assert_eq!(told(settings(Some(NEW), Some(CLI), None)), texts(["id2", "s2", "", "", "cn-a"]));
        assert_eq!(told(settings(Some(NEW), None, Some("dev"))), texts(["id3", "s3", "t3", "https://e", "cn-b"]));
        assert_eq!(told(settings(Some(NEW), None, Some("heir"))), texts(["id3", "s3", "t3", "https://e", "cn-c"]));
        assert_eq!(told(settings(None, Some(CLI), None)), texts(["id5", "s5", "t5", "", "cn-d"]));
        assert_eq!(told(settings(Some("[profile a]\n"), Some(CLI), None)), texts(["id5", "s5", "t5", "", "cn-d"]));
        assert_eq!(told(settings(Some(NEW), Some(CLI), Some("work"))), texts(["id5", "s5", "t5", "", "cn-d"]));
        assert_eq!(told(settings(None, None, None)), texts([""; 5]));
    }

    #[test]
    fn what_cannot_be_used_is_said_without_a_secret() {
        for (ossutil, aliyun, name, says) in [
            (Some(NEW), Some(CLI), Some("nobody"), "no profile \"nobody\""),
            (Some(NEW), None, Some("role"), "EcsRamRole"),
            (Some(NEW), None, Some("loop"), "circles"),
            (None, Some(CLI), Some("role"), "RamRoleArn"),
            (
                None,
                Some("{\"profiles\":[{\"name\":\"default\",\"access_key_secret\":\"s7\",\"mode\":7}]}"),
                None,
                "line 1",
            ),
        ] {
            let Err(error) = settings(ossutil, aliyun, name) else { panic!("{says}") };
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let text = format!("{error} {error:?}");
            assert!(text.contains(says) && !text.contains("s7"), "{text}");
        }
    }
}
