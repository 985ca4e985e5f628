//! Other programs that encrypt what they upload, started as a user starts them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::s3_server::{ACCESS_KEY, SECRET_KEY};

const OBJECT: &str = "s3://bench/object";

/// A program, or two in a pipe.
pub(crate) enum Peer {
    /// `rclone` with a `crypt` remote over S3: NaCl's secretbox by 64 KiB, parts in parallel.
    Rclone { url: String, password: String },
    /// `age` through a pipe into `aws s3 cp -`, and back.
    Age { url: String, aws: PathBuf, identity: PathBuf, recipient: String },
}

impl Peer {
    /// Those that there are. `dir` is for their keys, `url` the server.
    pub(crate) fn installed(dir: &Path, url: &str) -> Vec<Self> {
        let mut found = Vec::new();
        if let Some(password) = said(Command::new("rclone").args(["obscure", "password"])) {
            found.push(Self::Rclone { url: url.to_owned(), password });
        }
        let (identity, aws) = (dir.join("age.key"), Path::new("target/test-venv/bin/aws"));
        let made = said(Command::new("age-keygen").arg("-o").arg(&identity));
        let recipient = made.and_then(|_| said(Command::new("age-keygen").arg("-y").arg(&identity)));
        if let (Some(recipient), Ok(aws)) = (recipient, aws.canonicalize()) {
            found.push(Self::Age { url: url.to_owned(), aws, identity, recipient });
        }
        found
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Rclone { .. } => "rclone crypt",
            Self::Age { .. } => "age | aws s3 cp",
        }
    }

    pub(crate) fn upload(&self, file: &Path) {
        match self {
            Self::Rclone { .. } => {
                let mut rclone = self.rclone("copyto");
                rclone.arg(file).arg("crypt:object").args(["--ignore-times", "--ignore-checksum", "--s3-no-head"]);
                rclone.args([
                    "--s3-upload-concurrency",
                    "8",
                    "--s3-upload-cutoff",
                    "16M",
                    "--s3-chunk-size",
                    "16M",
                    "--s3-disable-checksum",
                ]);
                run(&mut [rclone]);
            }
            Self::Age { recipient, .. } => {
                let mut age = Command::new("age");
                age.args(["-r", recipient]).arg(file);
                run(&mut [age, self.aws("-", OBJECT)]);
            }
        }
    }

    pub(crate) fn download(&self) {
        match self {
            Self::Rclone { .. } => {
                let mut rclone = self.rclone("copyto");
                rclone.args(["crypt:object", ":memory:bench/object"]);
                run(&mut [rclone]);
            }
            Self::Age { identity, .. } => {
                let mut age = Command::new("age");
                age.arg("-d").arg("-i").arg(identity);
                run(&mut [self.aws(OBJECT, "-"), age]);
            }
        }
    }

    fn rclone(&self, command: &str) -> Command {
        let mut rclone = Command::new("rclone");
        rclone.env_remove("AWS_CA_BUNDLE"); // which it cannot take
        if let Self::Rclone { url, password } = self {
            rclone.arg(command).args([
                "--config",
                "/dev/null",
                "--retries",
                "1",
                "--low-level-retries",
                "1",
                "--s3-no-check-bucket",
            ]);
            for (name, value) in
                [("TYPE", "s3"), ("PROVIDER", "Other"), ("ENDPOINT", url), ("FORCE_PATH_STYLE", "true")]
            {
                rclone.env(format!("RCLONE_CONFIG_SINK_{name}"), value);
            }
            rclone
                .env("RCLONE_CONFIG_SINK_ACCESS_KEY_ID", ACCESS_KEY)
                .env("RCLONE_CONFIG_SINK_SECRET_ACCESS_KEY", SECRET_KEY);
            rclone.env("RCLONE_CONFIG_CRYPT_TYPE", "crypt").env("RCLONE_CONFIG_CRYPT_REMOTE", "sink:bench");
            rclone.env("RCLONE_CONFIG_CRYPT_PASSWORD", password).env("RCLONE_CONFIG_CRYPT_FILENAME_ENCRYPTION", "off");
        }
        rclone
    }

    fn aws(&self, from: &str, to: &str) -> Command {
        let mut command = Command::new("aws");
        if let Self::Age { url, aws, .. } = self {
            command = Command::new(aws);
            command.args(["--endpoint-url", url, "--region", "us-east-1", "s3", "cp", "--only-show-errors", from, to]);
            command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
            command.env("AWS_EC2_METADATA_DISABLED", "true").env("AWS_CONFIG_FILE", "/dev/null");
        }
        command
    }
}

/// What a command says on stdout, if it can be run and ends well.
fn said(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// Runs commands in a pipe to its end, whose output is dropped.
fn run(pipe: &mut [Command]) {
    let last = pipe.len() - 1;
    let mut children = Vec::new();
    let mut input = Stdio::null();
    for (n, command) in pipe.iter_mut().enumerate() {
        let output = if n == last { Stdio::null() } else { Stdio::piped() };
        let mut child = command.stdin(input).stdout(output).spawn().expect("it ran a moment ago");
        input = child.stdout.take().map_or_else(Stdio::null, Stdio::from);
        children.push(child);
    }
    for mut child in children {
        assert!(child.wait().expect("a child").success(), "{pipe:?} failed");
    }
}
