//! The configuration file, and those of the clouds' own tools.

use crate::support::{Run, Sandbox};

#[test]
fn flags_have_the_defaults_of_the_file_and_go_before_it() {
    let sandbox = Sandbox::new();
    sandbox.random_file("src", 3_000_000);
    std::fs::create_dir(sandbox.path("home")).unwrap();
    sandbox.write("home/config.toml", b"part_size = '1M'\nmemory_budget = '32M'\nthreads = 1\nconcurrency = 2\n");
    let parts = |args: &[&str]| {
        sandbox.run(&[&["put", "src", "obj", "--json"], args].concat()).expect(0).json()["parts"].clone()
    };
    assert_eq!((parts(&[]), parts(&["--part-size", "2M"])), (3.into(), 2.into()));

    sandbox.write("home/config.toml", b"# mine\npart_size = '1M'\nthread = 1\n");
    for args in [&["put", "src", "obj"][..], &["uploads", "list"], &["doctor"]] {
        let run = sandbox.run(args).expect_error(2, "config.toml, line 3: unknown field `thread`");
        assert!(run.stderr().contains("docs/configuration.md"), "{}", run.stderr());
    }
    // Where help is needed, it is there.
    sandbox.run(&["put", "--help"]).expect(0);
    sandbox.run(&["completions", "bash"]).expect(0);
}

#[test]
fn without_a_home_of_its_own_it_is_where_the_platform_has_configuration() {
    let sandbox = Sandbox::new();
    sandbox.random_file("src", 3_000_000);
    std::fs::create_dir_all(sandbox.path("user/.config/sealift")).unwrap();
    std::fs::create_dir_all(sandbox.path("xdg/sealift")).unwrap();
    sandbox.write("user/.config/sealift/config.toml", b"part_size = '1M'\n");
    sandbox.write("xdg/sealift/config.toml", b"part_size = '2M'\n");
    for (xdg, parts) in [(None, 3), (Some(sandbox.path("xdg")), 2)] {
        let mut command = sandbox.command(["put", "src", "obj", "--json"]);
        command.env_remove("SEALIFT_HOME").env_remove("XDG_DATA_HOME").env_remove("XDG_CONFIG_HOME");
        command.env("HOME", sandbox.path("user"));
        if let Some(xdg) = xdg {
            command.env("XDG_CONFIG_HOME", xdg);
        }
        assert_eq!(Run::of(&mut command).expect(0).json()["parts"], parts);
    }
}

#[test]
fn what_is_sealed_for_by_default_opens_by_default() {
    let sandbox = Sandbox::new();
    sandbox.write("src", b"plain");
    sandbox.run(&["put", "src", "before"]).expect(0);
    let id = sandbox.run(&["kms", "create-key"]).expect(0).stdout().trim().to_owned();
    sandbox.run(&["kms", "create-alias", "alias/mine", &id]).expect(0);
    sandbox.write("home/config.toml", b"kms_key = 'alias/mine'\n");
    let put = sandbox.run(&["put", "src", "after", "--json"]).expect(0).json();
    assert_eq!(put["data_keys"][0]["key"], id.as_str());
    let named = sandbox.run(&["put", "src", "named", "--json", "--kms-key", "alias/default"]).expect(0).json();
    assert_ne!(named["data_keys"][0]["key"], id.as_str());
    for object in ["before", "after", "named"] {
        sandbox.run(&["verify", object]).expect(0);
    }
    // Several at once; a service that cannot be reached stops nobody who does not need it.
    sandbox.write("home/config.toml", b"kms_key = ['alias/mine', 'vault:uploads']\n");
    let mut verify = sandbox.command(["verify", "after"]);
    verify.env("VAULT_ADDR", "http://127.0.0.1:9").env("VAULT_TOKEN", "t");
    Run::of(&mut verify).expect(0);
    let mut unset = sandbox.command(["verify", "after"]);
    for name in ["VAULT_ADDR", "VAULT_TOKEN", "BAO_ADDR", "BAO_TOKEN"] {
        unset.env_remove(name);
    }
    Run::of(unset.env("HOME", sandbox.path("."))).expect(0);
    let mut put = sandbox.command(["put", "src", "both"]);
    put.env("VAULT_ADDR", "http://127.0.0.1:9").env("VAULT_TOKEN", "t");
    assert_ne!(Run::of(&mut put).code(), Some(0));
}

#[cfg(feature = "s3")]
mod s3 {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;
    use crate::s3::World;
    use crate::s3_server::{ACCESS_KEY, SECRET_KEY};

    #[test]
    fn buckets_are_found_by_flag_environment_file_and_awss_own_files_in_this_order() {
        let world = World::new();
        let sandbox = &world.sandbox;
        let plain = sandbox.random_file("src", 1000);
        world.run(&["put", "src", "s3://bucket/o"]).expect(0);
        let url = world.server.url();
        let nowhere = "http://127.0.0.1:9";
        let cat = |args: &[&str], change: fn(&mut std::process::Command, &str), with: &str| {
            let mut command = world.bare(&[&["cat", "s3://bucket/o"], args].concat());
            change(&mut command, with);
            Run::of(&mut command)
        };
        let unchanged: fn(&mut std::process::Command, &str) = |_, _| {};

        // AWS's own: an endpoint of the services that a profile names.
        let config = |endpoint: &str| {
            format!(
                "[profile tests]\nregion = eu-west-1\nservices = local\n[services local]\ns3 =\n  endpoint_url = {endpoint}\n"
            )
        };
        sandbox.write("config", config(&url).as_bytes());
        assert!(cat(&["--profile", "tests"], unchanged, "").expect(0).bytes() == plain);

        // Sealift's file: before AWS's, by bucket before by cloud.
        sandbox.write("config", config(nowhere).as_bytes());
        let ours =
            format!("[s3]\nprofile = 'tests'\nendpoint = '{nowhere}'\n[bucket.'s3://bucket']\nendpoint = '{url}'\n");
        sandbox.write("home/config.toml", ours.as_bytes());
        assert!(cat(&[], unchanged, "").expect(0).bytes() == plain);
        // Of another bucket it says something else.
        Run::of(&mut world.bare(&["ls", "s3://other"])).expect_error(7, "cannot connect to");

        // The environment before that, and flags before the environment.
        let in_env: fn(&mut std::process::Command, &str) = |command, url| {
            command.env("AWS_ENDPOINT_URL", url);
        };
        let mut ls = world.bare(&["ls", "s3://bucket"]);
        Run::of(ls.env("AWS_ENDPOINT_URL", nowhere)).expect_error(7, "cannot connect to");
        assert!(cat(&["--endpoint", &url], in_env, nowhere).expect(0).bytes() == plain);
    }

    #[test]
    fn a_profile_that_is_named_goes_before_credentials_in_the_environment_and_a_configured_one_does_not() {
        let world = World::new();
        let sandbox = &world.sandbox;
        sandbox.write("src", b"plain");
        world.run(&["put", "src", "s3://bucket/o"]).expect(0);
        let run = |args: &[&str], id: &str, secret: &str| {
            let mut command = world.bare(args);
            command.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret);
            Run::of(&mut command)
        };
        run(&["cat", "s3://bucket/o", "--profile", "tests"], "nobody", "wrong").expect(0);
        sandbox.write(
            "home/config.toml",
            format!("[s3]\nprofile = 'tests'\nendpoint = '{}'\n", world.server.url()).as_bytes(),
        );
        run(&["cat", "s3://bucket/o"], "nobody", "wrong").expect_error(7, "access key");
        run(&["cat", "s3://bucket/o"], ACCESS_KEY, SECRET_KEY).expect(0);
        Run::of(&mut world.bare(&["cat", "s3://bucket/o"])).expect(0);
        let missing = Run::of(&mut world.bare(&["cat", "s3://bucket/o", "--profile", "missing"]));
        missing.expect_error(7, "there are no credentials");
    }

    #[test]
    fn a_service_for_credentials_that_fails_is_told_of_and_given_up_soon() {
        // As where a firewall answers for a cloud machine's metadata service.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        std::thread::spawn({
            let asked = Arc::clone(&asked);
            move || {
                for connection in listener.incoming() {
                    let mut connection = connection.unwrap();
                    asked.fetch_add(1, Relaxed);
                    _ = connection.read(&mut [0; 4096]);
                    _ = connection
                        .write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                }
            }
        });
        let sandbox = Sandbox::new();
        sandbox.random_file("src", 10);
        let mut put = sandbox.command(["put", "src", "s3://bucket/o", "--endpoint", "http://127.0.0.1:1"]);
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"] {
            put.env_remove(name);
        }
        put.env("AWS_CONFIG_FILE", sandbox.path("none")).env("AWS_SHARED_CREDENTIALS_FILE", sandbox.path("none"));
        put.env("AWS_EC2_METADATA_DISABLED", "false").env("AWS_EC2_METADATA_SERVICE_ENDPOINT", url);
        let run = Run::of(&mut put).expect_error(7, "the service that gives credentials on this machine fails");
        assert!(run.stderr().contains("it is tried again for a while"), "{}", run.stderr());
        // Two requests an attempt, of which a store that answers sometimes would get twelve.
        assert!(asked.load(Relaxed) <= 12);
    }
}

#[cfg(feature = "oss")]
mod oss {
    use super::*;
    use crate::oss::World;
    use crate::oss_server::{BUCKET, REGION};

    #[test]
    fn the_files_of_ossutil_and_of_alibabas_cli_are_read() {
        let world = World::new();
        let (sandbox, account) = (&world.sandbox, &world.server.state.account);
        sandbox.write("src", b"plain");
        let url = format!("oss://{BUCKET}/o");
        world.run(&["put", "src", &url]).expect(0);
        let (id, secret, endpoint) = (&account.id, &account.secret, world.server.endpoint());
        let cat = |args: &[&str]| Run::of(&mut world.bare(&[&["cat", url.as_str()], args].concat()));
        cat(&["--region", REGION]).expect_error(2, "ossutil config");

        // Version 1 of ossutil.
        let old =
            format!("[Credentials]\nlanguage=EN\naccessKeyID={id}\naccessKeySecret={secret}\nendpoint={endpoint}\n");
        sandbox.write(".ossutilconfig", old.as_bytes());
        cat(&["--region", REGION, "--endpoint", &endpoint]).expect(0);
        // Version 2, with profiles.
        let new = format!(
            "[default]\naccessKeyId=nobody\naccessKeySecret=hush\nregion={REGION}\nendpoint={endpoint}\n\
             [profile work]\nsource_profile=default\naccessKeyId={id}\naccessKeySecret={secret}\n"
        );
        sandbox.write(".ossutilconfig", new.as_bytes());
        let run = cat(&[]).expect_error(7, "OSS_ACCESS_KEY_ID");
        assert!(!run.stderr().contains("hush"), "{}", run.stderr());
        cat(&["--profile", "work"]).expect(0);
        let mut named = world.bare(&["cat", &url]);
        Run::of(named.env("OSSUTIL_PROFILE", "work")).expect(0);
        // The environment goes before the files, but not before a profile that was named.
        let mut in_env = world.bare(&["cat", &url]);
        Run::of(in_env.env("OSS_ACCESS_KEY_ID", id).env("OSS_ACCESS_KEY_SECRET", secret)).expect(0);
        let mut both = world.bare(&["cat", &url, "--profile", "work"]);
        Run::of(both.env("OSS_ACCESS_KEY_ID", "nobody").env("OSS_ACCESS_KEY_SECRET", "x")).expect(0);
        // So does Sealift's own.
        sandbox.write("home/config.toml", b"[oss]\nprofile = 'work'\n");
        cat(&[]).expect(0);
        std::fs::remove_file(sandbox.path("home/config.toml")).unwrap();
        cat(&["--profile", "missing"]).expect_error(2, "no profile \"missing\"");

        std::fs::remove_file(sandbox.path(".ossutilconfig")).unwrap();
        std::fs::create_dir(sandbox.path(".aliyun")).unwrap();
        let cli = serde_json::json!({"current": "a", "profiles": [
            {"name": "a", "mode": "AK", "access_key_id": id, "access_key_secret": secret, "region_id": REGION},
            {"name": "role", "mode": "RamRoleArn"},
        ]});
        sandbox.write(".aliyun/config.json", cli.to_string().as_bytes());
        cat(&["--endpoint", &endpoint]).expect(0);
        sandbox.write("home/config.toml", format!("[bucket.\"oss://{BUCKET}\"]\nendpoint = '{endpoint}'\n").as_bytes());
        cat(&[]).expect(0);
        cat(&["--profile", "role"]).expect_error(2, "RamRoleArn");
    }
}
