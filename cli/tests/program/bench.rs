//! `bench` on a file so small that its figures mean nothing: what it prints, and what it leaves behind, is what is tested.

use std::collections::BTreeSet;

use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::Value;

use crate::support::Sandbox;

const SMALL: [&str; 9] = ["bench", "--size", "1M", "--rounds", "1", "--threads", "2", "--dir", "work"];

fn bench(sandbox: &Sandbox, more: &[&str]) -> Value {
    std::fs::create_dir_all(sandbox.path("work")).unwrap();
    let report = sandbox.run(&[&SMALL, more, &["--json"]].concat()).expect(0).json();
    assert!(sandbox.list("work").is_empty(), "it removes its files");
    report
}

fn ids(report: &Value) -> BTreeSet<String> {
    let ids: Vec<_> = rows(report).iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
    let unique: BTreeSet<_> = ids.iter().cloned().collect();
    assert_eq!(ids.len(), unique.len(), "{ids:?}");
    unique
}

fn rows(report: &Value) -> &[Value] {
    report["rows"].as_array().unwrap()
}

#[test]
fn every_row_is_there_with_figures_and_a_chart() {
    let sandbox = Sandbox::new();
    let groups = "memory,small,file,directory,range";
    let report = bench(&sandbox, &["--only", groups, "--chart", "chart.svg"]);
    let found = ids(&report);
    for id in [
        "memory/primitive/1",
        "memory/primitive/2",
        "memory/part/1",
        "memory/part/2",
        "memory/upload/2",
        "memory/open/2",
        "memory/crc64/1",
        "small/seal-1k/1",
        "small/open-1k/1",
        "small/objects-1k/2",
        "small/objects-4k/2",
        "file/hand-read/1",
        "file/hand-map/2",
        "file/read/1",
        "file/map/2",
        "file/read-crc/2",
        "file/hand-map-crc/2",
        "file/part-1m/2",
        "file/part-64m/2",
        "directory/put/2",
        "directory/hand-put/2",
        "directory/cp/1",
        "directory/open/1",
        "directory/get/2",
        "directory/hand-open/2",
        "directory/hand-get/1",
        "range/sealed/1",
        "range/plain/1",
        "range/pread/1",
    ] {
        assert!(found.contains(id), "{id} is not in {found:?}");
    }
    for row in rows(&report) {
        assert!(row["per_second"]["median"].as_f64().unwrap() > 0.0, "{row}");
        assert_eq!(row["seconds"].as_array().unwrap().len(), 1, "{row}");
        assert!(groups.contains(row["group"].as_str().unwrap()), "{row}");
        for text in ["name", "unit", "limit"] {
            assert!(!row[text].as_str().unwrap().is_empty(), "{text}: {row}");
        }
    }
    let ratios = report["ratios"].as_array().unwrap();
    assert!(ratios.len() >= 10, "{ratios:?}");
    for ratio in ratios {
        // One round is not enough to conclude anything, and it says so.
        assert_eq!(ratio["conclusive"], false, "{ratio}");
        assert!(found.contains(ratio["row"].as_str().unwrap()) && ratio["median"].as_f64().unwrap() > 0.0, "{ratio}");
    }
    let machine = &report["machine"];
    for text in ["cpu", "cpu_features", "kernel", "backend", "backend_why"] {
        assert!(!machine[text].as_str().unwrap().is_empty(), "{text}: {machine}");
    }
    assert!(report["doubts"].to_string().contains("too few for conclusions"));

    // A chart with a bar for each row, and no script, font or picture from elsewhere.
    let svg = String::from_utf8(sandbox.read("chart.svg")).unwrap();
    let (mut reader, mut bars, mut depth) = (Reader::from_str(&svg), 0, 0);
    loop {
        match reader.read_event().unwrap() {
            Event::Start(_) => depth += 1,
            Event::End(_) => depth -= 1,
            Event::Empty(tag) => {
                let class = tag.try_get_attribute("class").unwrap();
                let class = class.map(|class| class.value.into_owned()).unwrap_or_default();
                bars +=
                    usize::from(tag.name().as_ref() == "rect" && (class.contains("ours") || class.contains("other")));
            }
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!((depth, bars), (0, rows(&report).len() + 2), "two more in the legend");
    assert!(!svg.contains("href") && !svg.contains("<script"));
}

#[test]
fn the_table_says_what_limits_each_row_and_what_is_in_use() {
    let sandbox = Sandbox::new();
    sandbox.run(&["bench", "--only", "memory", "--size", "1M", "--rounds", "1"]).expect(0);
    let run = sandbox.run(&["bench", "--only", "memory", "--size", "1M", "--rounds", "1", "--backend", "aws-lc-rs"]);
    let text = run.expect(0).stdout();
    for part in ["CPU ", "Backend  aws-lc-rs: as --backend says", "In memory", "limited by", "GHASH", "half within"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn other_programs_are_measured_or_said_to_be_missing() {
    let sandbox = Sandbox::new();
    let report = bench(&sandbox, &["--only", "peers"]);
    let (found, skipped) = (ids(&report), report["skipped"].as_array().unwrap());
    assert!(found.contains("peers/seal-sealift") && found.contains("peers/open-sealift"));
    for peer in ["age", "rage", "rclone", "openssl"] {
        let said = skipped.iter().any(|skipped| skipped["name"] == peer);
        assert_ne!(found.contains(&format!("peers/seal-{peer}")), said, "{peer}: {found:?} {skipped:?}");
    }
    // Nothing of the user's: neither a key store nor ledgers.
    assert!(!sandbox.exists("home"));
}

#[test]
fn a_store_is_measured_and_left_as_it_was() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("dir")).unwrap();
    sandbox.write("dir/mine", b"stays");
    let report = bench(&sandbox, &["--only", "url", "dir", "discard:"]);
    let found = ids(&report);
    let expected =
        ["put", "plain-put", "open", "plain-get", "range", "plain-range"].map(|what| format!("url/1-{what}/2"));
    assert!(expected.iter().all(|id| found.contains(id)) && found.contains("url/2-put/2"), "{found:?}");
    assert_eq!(sandbox.list("dir").iter().filter(|name| *name != ".sealift").collect::<Vec<_>>(), ["mine"]);
    let left: Vec<_> = sandbox.list("dir/.sealift").into_iter().filter(|name| name.contains("bench")).collect();
    assert!(left.is_empty(), "{left:?}");

    sandbox.run(&[&SMALL[..], &["--only", "url", "absent"]].concat()).expect_error(3, "there is no directory");
    sandbox.run(&["bench", "--chart", "absent/chart.svg"]).expect_error(3, "chart.svg");
    sandbox.run(&["bench", "--rounds", "0"]).expect_error(2, "--rounds");
}
