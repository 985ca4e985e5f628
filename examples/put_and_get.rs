//! Seal a file into a directory, and read it back: a range of it, then all.

use std::sync::Arc;

use sealift::Engine;
use sealift::engine::{GetOptions, ReadOptions, UploadOptions};
use sealift::kms::local::{LocalKms, RootKeySource};
use sealift::kms::recipients::{Recipient, Trusted, TrustedKeys};
use sealift::source::FileSource;
use sealift::store::DirStore;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("report.pdf"), "what nobody else may read")?;

    // Made at its first use, with a master key called alias/default. Back it up.
    let (kms, _created) = LocalKms::open_or_create(dir.path().join("keys"), RootKeySource::File)?;
    let kms = Arc::new(kms);
    let store = Arc::new(DirStore::open(dir.path().join("bucket"))?);
    let engine = Engine::builder().memory_budget(64 << 20).build()?;

    let source = Box::new(FileSource::open(dir.path().join("report.pdf"))?);
    let recipients = [Recipient { kms: kms.clone(), key: "alias/default".into() }];
    engine.upload(store.clone(), "report.pdf".parse()?, source, &recipients, UploadOptions::default()).await?;

    let trusted = Trusted::new(vec![(kms, TrustedKeys::Any)]);
    let object = engine.open(store, "report.pdf".parse()?, &trusted, &ReadOptions::default()).await?;
    assert_eq!(object.read_range("5-10".parse()?).await?, b"nobody");
    object.write_to_file(&dir.path().join("back.pdf"), GetOptions::default()).await?;
    Ok(())
}
