//! Unit tests of `config.rs`: each field of a config, as words.
#![allow(clippy::unwrap_used)]

use super::*;

fn words(config: &str) -> Result<Vec<String>> {
    let json = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[]}},"config":{config}}}"#
    );
    ImageConfig::parse(json.as_bytes())?.words()
}

#[track_caller]
fn check(config: &str, expected: &[&str]) {
    assert_eq!(words(config).unwrap(), expected, "{config}");
}

#[track_caller]
fn refused(config: &str, part: &str) {
    let error = format!("{:#}", words(config).unwrap_err());
    assert!(error.contains(part) && !error.contains('\n'), "{config}: {error}");
}

#[test]
fn all_fields_are_options() {
    check(
        r#"{"Entrypoint":["/docker-entrypoint.sh"],"Env":["PATH=/usr/bin","EMPTY="],"ExposedPorts":{"80/tcp":{},
        "53/udp":{},"8000-8010":{},"9/sctp":{}},"Labels":{"b":"2","a":"1=x y"},"StopSignal":"SIGQUIT",
        "User":"nginx:www","Volumes":{"/var/lib/b/":{},"/a":{}},"WorkingDir":"/srv",
        "Cmd":["nginx","-g","daemon off;"]}"#,
        &[
            r#"--entrypoint=["/docker-entrypoint.sh"]"#,
            "--env=PATH=/usr/bin",
            "--env=EMPTY=",
            "--expose=53/udp",
            "--expose=80",
            "--expose=8000-8010",
            "--label=a=1=x y",
            "--label=b=2",
            "--stop-signal=QUIT",
            "--user=nginx:www",
            "--volume=/a",
            "--volume=/var/lib/b",
            "--workdir=/srv",
            "--",
            "nginx",
            "-g",
            "daemon off;",
        ],
    );
}

#[test]
fn missing_fields_are_no_options() {
    check("null", &["--"]);
    check("{}", &["--"]);
    check(
        r#"{"Entrypoint":null,"Env":null,"ExposedPorts":null,"Labels":null,"StopSignal":"","User":"","Volumes":null,
        "WorkingDir":"","Cmd":null,"Healthcheck":null,"OnBuild":["RUN false"],"Image":"x"}"#,
        &["--"],
    );
    check(
        r#"{"Entrypoint":[],"Cmd":["-v","--privileged"],"WorkingDir":"srv"}"#,
        &["--workdir=/srv", "--", "-v", "--privileged"],
    );
}

#[test]
fn health_checks_have_durations() {
    check(
        r#"{"Healthcheck":{"Test":["CMD","curl","-f","localhost"],"Interval":30000000000,"Timeout":1500000000,
        "StartPeriod":1,"Retries":4}}"#,
        &[
            r#"--health-cmd=["curl","-f","localhost"]"#,
            "--health-interval=30s",
            "--health-timeout=1500ms",
            "--health-start-period=1ms",
            "--health-retries=4",
            "--",
        ],
    );
    check(
        r#"{"Healthcheck":{"Test":["CMD-SHELL","a || \"b\""],"Interval":0,"Retries":0}}"#,
        &[r#"--health-cmd=["/bin/sh","-c","a || \"b\""]"#, "--"],
    );
    check(
        r#"{"Shell":["/bin/bash","-c"],"Healthcheck":{"Test":["CMD-SHELL","a"]}}"#,
        &[r#"--health-cmd=["/bin/bash","-c","a"]"#, "--"],
    );
    check(r#"{"Healthcheck":{"Test":["NONE"]}}"#, &["--no-healthcheck", "--"]);
    check(r#"{"Healthcheck":{"Test":[],"Interval":5}}"#, &["--"]);
    check(r#"{"Healthcheck":{"Interval":5}}"#, &["--"]);
    refused(r#"{"Healthcheck":{"Test":["CMD"]}}"#, "Healthcheck");
    refused(r#"{"Healthcheck":{"Test":["RUN","x"]}}"#, "Healthcheck");
    refused(r#"{"Healthcheck":{"Test":"curl"}}"#, "Healthcheck");
    refused(r#"{"Healthcheck":{"Test":["CMD","x"],"Interval":-1}}"#, "Interval");
    refused(r#"{"Healthcheck":{"Test":["CMD","x"],"Retries":-1}}"#, "Retries");
}

#[test]
fn hostile_fields_are_refused() {
    refused(r#"{"Env":["SECRET"]}"#, "SECRET");
    refused(r#"{"Env":["=x"]}"#, "=x");
    refused(r#"{"Env":["A=\u0000--privileged"]}"#, "zero");
    refused(r#"{"Volumes":{"/":{}}}"#, "volume");
    refused(r#"{"Volumes":{"../x":{}}}"#, "volume");
    refused(r#"{"ExposedPorts":{"0":{}}}"#, "port");
    refused(r#"{"ExposedPorts":{"80/tcp -v /:/host":{}}}"#, "port");
    refused(r#"{"ExposedPorts":{"65536":{}}}"#, "port");
    refused(r#"{"Labels":{"":"x"}}"#, "label");
    check(r#"{"Labels":{"a":"two\nlines\u001b"}}"#, &["--label=a=two lines ", "--"]);
    refused(r#"{"Cmd":"sh"}"#, "config");
}

#[test]
fn words_are_appended_in_blocks() {
    let mut file = tempfile::tempfile().unwrap();
    file.set_len(8000).unwrap();
    let words: Vec<String> = ["--env=A=b", "--", "a", ""].map(Into::into).into();
    append(&mut file, &words).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 3 * BLOCK);
    let mut bytes = vec![0; 4096];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 8192).unwrap();
    assert!(bytes.starts_with(b"kontena\x01\x10\0\0\0--env=A=b\0--\0a\0\0\0"));
    assert_eq!(decode(&bytes).unwrap(), words);
    assert_eq!(decode(&encode(&[]).unwrap()).unwrap(), Vec::<String>::new());
    assert!(decode(b"kontena\x01\xff\xff\xff\xff").is_err() && decode(b"").is_err() && decode(&[0; 64]).is_err());
}
