//! Disks that are full or read-only: real ones, in a mount namespace that ends with the process.

use std::path::PathBuf;

use super::*;

#[cfg(target_os = "linux")]
fn on_a_small_disk(test: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mount = r#"mount -t tmpfs -o size=2m none "$TEST_DIR" && exec "$@""#;
    let wrapper = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh"];
    succeeded(this_program(&wrapper, test, &[("TEST_DIR", dir.path().to_str().unwrap())]).spawn().unwrap());
}

#[cfg(target_os = "linux")]
#[test]
fn s27_full_disk() {
    on_a_small_disk("disks::inside_a_full_disk");
}

#[cfg(target_os = "linux")]
#[test]
fn s27_read_only_disk() {
    on_a_small_disk("disks::inside_a_read_only_disk");
}

#[tokio::test]
#[ignore = "run by s27_full_disk, on a disk of 2 MiB"]
async fn inside_a_full_disk() {
    let dir = PathBuf::from(argument("TEST_DIR"));
    let store = DirStore::open(&dir).unwrap();
    put(&store, "a", object(1, 400_000)).await.unwrap();
    let too_much = object(2, 3_000_000);
    let before = tree(&dir);

    let error = put(&store, "a", too_much.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert!(error.to_string().contains(dir.to_str().unwrap()), "{error}");
    assert_eq!(tree(&dir), before, "nothing is left of what did not fit");

    for offset in [Some(0), None] {
        let upload = initiate(&store, "a", &too_much.1).await;
        let error = put_part(&store, &upload, 1, offset, held(&too_much.0)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
        assert_eq!(whole(&store, "a").await, 1);
        // Joining needs the room a second time.
        if offset.is_none() {
            let part = put_part(&store, &upload, 1, None, held(&too_much.0.slice(..1_000_000))).await.unwrap();
            let error = store.complete(&upload, std::slice::from_ref(&part), PutCondition::None).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
            assert_eq!(store.list_parts(&upload).await.unwrap()[0].etag, part.etag, "the part is kept for another try");
        }
        store.abort(&upload).await.unwrap();
        assert_eq!(tree(&dir), before);
    }

    // Not a page left.
    let mut filler = Vec::new();
    for size in [100_000, 4096, 1] {
        loop {
            let file = dir.join(format!("filler-{}", filler.len()));
            let full = fs::write(&file, vec![0; size]).is_err();
            filler.push(file);
            if full {
                break;
            }
        }
    }
    assert_eq!(kind(put(&store, "a", object(3, 10)).await), ErrorKind::NoSpace);
    assert_eq!(kind(put(&store, "other/b", object(3, 10)).await), ErrorKind::NoSpace);
    assert_eq!(kind(store.initiate(&key("a"), &too_much.1).await), ErrorKind::NoSpace);
    assert_eq!(kind(store.copy(&key("a"), &key("b"), PutCondition::None).await), ErrorKind::NoSpace);
    assert_eq!(whole(&store, "a").await, 1);
    for file in filler {
        fs::remove_file(file).unwrap();
    }
    assert_eq!(store.list_uploads("").await.unwrap(), []);
    put(&store, "a", object(4, 400_000)).await.unwrap();
    assert_eq!(whole(&store, "a").await, 4, "there is room again");
}

#[tokio::test]
#[ignore = "run by s27_read_only_disk, in a mount namespace of its own"]
async fn inside_a_read_only_disk() {
    let dir = PathBuf::from(argument("TEST_DIR"));
    let store = DirStore::open(&dir).unwrap();
    put(&store, "d/a", object(1, 1000)).await.unwrap();
    let (body, properties) = object(2, 1000);
    let upload = initiate(&store, "d/a", &properties).await;
    let list = [put_part(&store, &upload, 1, Some(0), held(&body)).await.unwrap()];
    let before = tree(&dir);
    assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(&dir).status().unwrap().success());

    let none = PutCondition::None;
    for refused in [
        put(&store, "d/a", object(3, 10)).await.map(drop),
        put(&store, "new/dir/a", object(3, 10)).await.map(drop),
        store.initiate(&key("d/b"), &properties).await.map(drop),
        put_part(&store, &upload, 1, Some(0), held(&body)).await.map(drop),
        put_part(&store, &upload, 2, None, held(&body)).await.map(drop),
        store.complete(&upload, &list, none).await.map(drop),
        store.abort(&upload).await,
        store.copy(&key("d/a"), &key("d/b"), none).await.map(drop),
        store.delete(&key("d/a")).await,
    ] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert!(error.to_string().contains(dir.to_str().unwrap()), "{error}");
    }
    assert_eq!(whole(&store, "d/a").await, 1);
    assert_eq!(store.list("").try_collect::<Vec<_>>().await.unwrap().len(), 1);
    assert_eq!(store.list_uploads("").await.unwrap(), std::slice::from_ref(&upload));
    assert_eq!(store.list_parts(&upload).await.unwrap()[0].etag, list[0].etag);
    assert_eq!(tree(&dir), before);
}
