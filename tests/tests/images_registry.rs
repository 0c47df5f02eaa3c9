//! Images of registries: Debian's docker-registry with and without TLS, passwords and tokens; registries that lie; and
//! connections that break. What is tested is what kontena-image says, and what is in its cache.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::sys::signal::{Signal, kill};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use tests::{Engines, Outcome, Program, Running, provided, wait_until};

/// Where a registry keeps its blobs, and kontena-image its.
const STORAGE: &str = "/var/lib/registry";
const CACHE: &str = "/var/lib/cache/kontena/blobs/sha256";

/// The bytes of the larger layer, which do not compress.
const LARGE: usize = 3 << 20;

/// Two images, `small` and `large`, as umoci(1) makes them, in the image layout /tmp/oci.
/// Their files are whole blocks of tar: umoci does not fill the last one.
const IMAGES: &str = "
    cd /tmp && umoci init --layout oci && head -c 512 /dev/zero > small && head -c 3145728 /dev/urandom > large
    for name in small large; do
        umoci new --image oci:$name
        umoci config --image oci:$name --os linux --architecture amd64 --config.cmd /bin/true
        umoci insert --image oci:$name $name /$name
    done";

/// `user:secret`, by `htpasswd -nbB user secret`; and the same as base64.
const HTPASSWD: &str = "user:$2y$05$gB080dOF1TJ2bZAFFOkMye8MWze0uie/9USqnuRX012txNrNyYgL.\n";
const BASE64: &str = "dXNlcjpzZWNyZXQ=";

/// An authority, and a certificate that it has signed for localhost.
const CERTIFICATES: &str = "
    mkdir -p /tls && cd /tls && echo subjectAltName=DNS:localhost > names
    openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=authority -days 2 -keyout ca.key -out ca.crt
    openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout tls.key -out tls.csr
    openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out tls.crt";

/// A token of a token server's that lets its bearer pull `app`, signed with the key of /tls/ca.crt.
const TOKEN: &str = r#"
    base64url() { base64 -w 0 | tr +/ -_ | tr -d =; }
    now=$(date +%s)
    certificate=$(openssl x509 -in /tls/ca.crt -outform der | base64 -w 0)
    header=$(printf '{"typ":"JWT","alg":"RS256","x5c":["%s"]}' "$certificate" | base64url)
    claims=$(printf '{"iss":"issuer","sub":"user","aud":"service","jti":"1","exp":%s,"nbf":%s,"iat":%s,
        "access":[{"type":"repository","name":"app","actions":["pull"]}]}' $((now + 3600)) $((now - 60)) $now |
        base64url)
    signature=$(printf %s "$header.$claims" | openssl dgst -sha256 -sign /tls/ca.key | base64url)
    printf %s "$header.$claims.$signature""#;

/// A host with registries, whose repository `app` has both images.
struct Registries {
    /// The registries, killed before the host is.
    running: Vec<Running>,
    engines: Engines,
}

impl Registries {
    fn new() -> Self {
        let registries = Self::without_images();
        let _ = registries.says(IMAGES);
        let filler = registries.serve(5000, "");
        for name in ["small", "large"] {
            registries.push(name, name, "");
        }
        drop(filler);
        registries
    }

    fn without_images() -> Self {
        let engines = Engines::without_images();
        let program = engines.host.directory().join("kontena-image");
        fs::copy(provided("KONTENA_IMAGE"), &program).unwrap();
        engines.host.inside(|| std::os::unix::fs::symlink(&program, "/usr/local/bin/kontena-image")).unwrap();
        Self { running: Vec::new(), engines }
    }

    #[track_caller]
    fn says(&self, script: &str) -> String {
        self.engines.program("sh").args(["-ec", script]).run().ok()
    }

    /// A registry at a port of localhost, with more lines of settings.
    #[track_caller]
    fn serve(&self, port: u16, settings: &str) -> Running {
        let file = format!("/etc/registry-{port}.yml");
        let http =
            if settings.starts_with("http:") { String::new() } else { format!("http:\n  addr: 127.0.0.1:{port}\n") };
        let storage = format!("storage:\n  filesystem:\n    rootdirectory: {STORAGE}\n");
        self.engines.write(&file, &format!("version: 0.1\n{storage}{http}{settings}"));
        let mut registry = self.engines.program("docker-registry").args(["serve", &file]).start();
        wait_until("the registry", || {
            assert!(!registry.has_ended(), "{}{}", registry.stdout(), registry.stderr());
            self.engines.host.inside(|| TcpStream::connect(("127.0.0.1", port)).is_ok())
        });
        registry
    }

    /// Serves as long as this host lives.
    fn keep(&mut self, port: u16, settings: &str) {
        let registry = self.serve(port, settings);
        self.running.push(registry);
    }

    #[track_caller]
    fn push(&self, image: &str, tag: &str, options: &str) {
        let to = format!("docker://127.0.0.1:5000/app:{tag}");
        let _ = self.says(&format!(
            "skopeo --insecure-policy copy -q --dest-tls-verify=false {options} oci:/tmp/oci:{image} {to}"
        ));
    }

    /// `kontena-image OPTIONS REFERENCE -o /tmp/out`, with more variables.
    fn image(&self, variables: &str, arguments: &str) -> Program<'_> {
        let line =
            format!("rm -f /tmp/out; {variables} XDG_CACHE_HOME=/var/lib/cache kontena-image {arguments} -o /tmp/out");
        self.engines.sh(&line)
    }

    /// Asserts that there is an image of it.
    #[track_caller]
    fn pulls(&self, arguments: &str) {
        let outcome = self.image("", arguments).run().code(0);
        assert!(self.engines.host.inside(|| fs::exists("/tmp/out").unwrap()), "{outcome}");
    }

    /// Asserts that there is none, for a reason that one line tells; returns it.
    #[track_caller]
    fn refuses(&self, arguments: &str) -> String {
        let reason = reason(self.image("", arguments).run());
        assert!(self.engines.host.inside(|| !fs::exists("/tmp/out").unwrap()), "{reason}");
        reason
    }

    /// What is in the cache: blobs, and parts of them.
    fn cache(&self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let mut all: Vec<PathBuf> = self
            .engines
            .host
            .inside(|| fs::read_dir(CACHE).into_iter().flatten().map(|entry| entry.unwrap().path()).collect());
        all.sort();
        all.into_iter().partition(|path| path.extension().is_none())
    }

    fn empty_cache(&self) {
        let _ = self.says(&format!("rm -rf {CACHE}"));
    }

    /// Starts a server on this host. Returns its address, and the heads of the requests that it gets.
    fn server(&self, answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> (String, Heads) {
        let heads = Heads::default();
        let (kept, answer) = (heads.clone(), Arc::new(answer));
        // Threads of a thread inside are inside.
        let address = self.engines.host.inside(move || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let _ = thread::spawn(move || {
                for stream in listener.incoming() {
                    let (heads, answer) = (kept.clone(), answer.clone());
                    let _ = thread::spawn(move || serve(stream.unwrap(), &heads, &*answer));
                }
            });
            address
        });
        (address, heads)
    }
}

/// The heads of requests.
#[derive(Clone, Default)]
struct Heads(Arc<Mutex<Vec<String>>>);

impl Heads {
    /// Those that contain a text.
    fn with(&self, text: &str) -> Vec<String> {
        self.0.lock().unwrap().iter().filter(|head| head.contains(text)).cloned().collect()
    }
}

/// Reads one request, unless it is TLS, and has it answered.
fn serve(mut stream: TcpStream, heads: &Heads, answer: &dyn Fn(&str, &mut TcpStream)) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
        head.push(byte[0]);
        if head[0] == 0x16 {
            return;
        }
    }
    let head = String::from_utf8(head).unwrap();
    heads.0.lock().unwrap().push(head.clone());
    answer(&head, &mut stream);
}

fn respond(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n", body.len());
    // A client may have heard enough.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

/// Why kontena-image has failed, on one line.
#[track_caller]
fn reason(outcome: Outcome) -> String {
    let outcome = outcome.code(1);
    let line = outcome.stderr.strip_suffix('\n').unwrap_or_default();
    assert!(line.starts_with("kontena-image: ") && !line.contains('\n') && line.len() < 1024, "{outcome}");
    line.into()
}

#[test]
fn tags_and_digests() {
    let mut registries = Registries::new();
    registries.keep(5000, "");
    registries.push("small", "docker", "--format v2s2");
    let digest =
        registries.says("skopeo inspect --raw --tls-verify=false docker://127.0.0.1:5000/app:small | sha256sum");
    let digest = digest.split(' ').next().unwrap().to_owned();
    for reference in ["127.0.0.1:5000/app:small", "docker://localhost:5000/app:docker"] {
        registries.pulls(reference);
        registries.pulls(&format!("--plain-http {reference}"));
    }
    registries.empty_cache();
    registries.pulls(&format!("localhost:5000/app@sha256:{digest}"));
    let (blobs, parts) = registries.cache();
    assert_eq!((blobs.len(), parts.len()), (3, 0), "a manifest, a config and a layer: {blobs:?}");
    let refused = registries.refuses("localhost:5000/app:none");
    assert!(refused.contains("localhost:5000 says: 404 Not Found, manifest unknown"), "{refused}");
    let refused = registries.refuses("localhost:5000/App");
    assert!(refused.contains("is not a reference"), "{refused}");
    let refused = registries.refuses("--plain-http localhost:5999/app");
    assert!(refused.contains("no connection to localhost:5999: Connection refused"), "{refused}");
    let refused = registries.refuses("--platform linux/arm64 localhost:5000/app:small");
    assert!(refused.contains("it is for linux/amd64 alone"), "{refused}");
}

#[test]
fn what_is_cached_needs_no_blobs_of_the_registry() {
    let mut registries = Registries::new();
    registries.keep(5000, "");
    registries.pulls("localhost:5000/app:small");
    let digest =
        registries.says("skopeo inspect --raw --tls-verify=false docker://127.0.0.1:5000/app:small | sha256sum");
    let blobs = registries.cache();
    let layer = blobs.0.iter().map(|path| path.file_name().unwrap().to_str().unwrap());
    // All but the manifest, which has the tag's answer.
    for hex in layer.filter(|hex| !digest.starts_with(hex)) {
        let _ = registries.says(&format!("rm {STORAGE}/docker/registry/v2/blobs/sha256/*/{hex}/data"));
    }
    registries.pulls("localhost:5000/app:small");
    registries.running.clear();
    // By its digest, not even the registry.
    registries.pulls(&format!("localhost:5000/app@sha256:{}", digest.split(' ').next().unwrap()));
    assert_eq!(registries.cache(), blobs);
    // A damaged blob is not believed.
    let _ = registries.says(&format!("for file in {CACHE}/*; do echo damage > $file; done"));
    let outcome =
        registries.image("", &format!("localhost:5000/app@sha256:{}", digest.split(' ').next().unwrap())).run();
    assert!(outcome.code == 1 && outcome.stderr.contains("is damaged, and is downloaded again"), "{outcome}");
}

#[test]
fn platforms_of_an_index() {
    let mut registries = Registries::new();
    registries.keep(5000, "");
    for (name, architecture) in [("small", "amd64"), ("large", "arm64")] {
        let _ = registries.says(&format!("umoci config --image /tmp/oci:{name} --architecture {architecture}"));
        registries.push(name, architecture, "");
    }
    let put = r#"
        entry() {
            skopeo inspect --raw --tls-verify=false docker://127.0.0.1:5000/app:$1 > /tmp/manifest
            jq -n --arg digest sha256:$(sha256sum < /tmp/manifest | cut -c 1-64) --arg architecture $1 \
                --argjson size $(stat -c %s /tmp/manifest) \
                '{mediaType: "application/vnd.oci.image.manifest.v1+json", $size, $digest,
                platform: {os: "linux", $architecture}}'
        }
        { entry amd64; entry arm64; } | jq -s '{schemaVersion: 2, manifests: .,
            mediaType: "application/vnd.oci.image.index.v1+json"}' > /tmp/index
        curl -sSf -X PUT -H 'Content-Type: application/vnd.oci.image.index.v1+json' --data-binary @/tmp/index \
            http://127.0.0.1:5000/v2/app/manifests/latest"#;
    let _ = registries.says(put);
    let size = || {
        registries
            .cache()
            .0
            .iter()
            .map(|path| registries.engines.host.inside(|| fs::metadata(path).unwrap().len()))
            .sum::<u64>()
    };
    registries.pulls("--platform linux/amd64 localhost:5000/app");
    assert!(size() < LARGE as u64);
    registries.pulls("--platform linux/arm64 localhost:5000/app:latest");
    assert!(size() > LARGE as u64);
    let refused = registries.refuses("--platform linux/riscv64 localhost:5000/app");
    assert!(refused.contains("linux/riscv64") && refused.contains("linux/amd64, linux/arm64"), "{refused}");
}

#[test]
fn tls() {
    let mut registries = Registries::new();
    let _ = registries.says(CERTIFICATES);
    let tls = "http:\n  addr: 127.0.0.1:5001\n  tls:\n    certificate: /tls/tls.crt\n    key: /tls/tls.key\n";
    registries.keep(5001, tls);
    let refused = registries.refuses("localhost:5001/app:small");
    assert!(refused.contains("has no certificate that this machine trusts"), "{refused}");
    let refused = registries.refuses("--tls-ca /tls/ca.crt 127.0.0.1:5001/app:small");
    assert!(refused.contains("certificate"), "another name than the certificate's: {refused}");
    registries.pulls("--tls-ca /tls/ca.crt localhost:5001/app:small");
    registries.empty_cache();
    let _ = registries.image("SSL_CERT_FILE=/tls/ca.crt", "localhost:5001/app:small").run().ok();
    registries.empty_cache();
    let _ = registries.says(
        "mkdir -p /etc/containers/certs.d/localhost:5001 && cp /tls/ca.crt /etc/containers/certs.d/localhost:5001/",
    );
    registries.pulls("localhost:5001/app:small");
}

#[test]
fn passwords() {
    let mut registries = Registries::new();
    registries.engines.write("/etc/htpasswd", HTPASSWD);
    registries.keep(5000, "auth:\n  htpasswd:\n    realm: realm\n    path: /etc/htpasswd\n");
    let image = "localhost:5000/app:small";
    let refused = registries.refuses(image);
    assert!(refused.contains("log in, as by `docker login localhost:5000`"), "{refused}");
    let config = |auth: &str| format!(r#"{{"auths": {{"localhost:5000": {{"auth": "{auth}"}}}}}}"#);
    registries.engines.write("/root/.docker/config.json", &config("dXNlcjp3cm9uZw=="));
    let refused = registries.refuses(image);
    assert!(refused.contains("localhost:5000 refuses the credentials"), "{refused}");
    registries.engines.write("/root/.docker/config.json", "{");
    assert!(registries.refuses(image).contains("/root/.docker/config.json: not JSON"));
    registries.engines.write("/root/.docker/config.json", &config(BASE64));
    registries.pulls(image);

    let files = [
        ("DOCKER_CONFIG=/a", "/a/config.json"),
        ("XDG_RUNTIME_DIR=/b", "/b/containers/auth.json"),
        ("REGISTRY_AUTH_FILE=/c", "/c"),
    ];
    for (variable, file) in files {
        let _ = registries.says("rm -rf /root/.docker");
        registries.engines.write(file, &config(BASE64));
        registries.empty_cache();
        let _ = registries.image(variable, image).run().ok();
    }
}

#[test]
fn credential_helpers() {
    let mut registries = Registries::new();
    registries.engines.write("/etc/htpasswd", HTPASSWD);
    registries.keep(5000, "auth:\n  htpasswd:\n    realm: realm\n    path: /etc/htpasswd\n");
    let helper = "/usr/local/bin/docker-credential-test";
    let answer =
        "[ $1 = get ] && [ \"$(cat)\" = localhost:5000 ] && echo '{\"Username\": \"user\", \"Secret\": \"secret\"}'\n";
    registries.engines.write(helper, &format!("#!/bin/sh\n{answer}"));
    let _ = registries.says(&format!("chmod 755 {helper}"));
    for config in
        [r#"{"credHelpers": {"localhost:5000": "test"}}"#, r#"{"auths": {"localhost:5000": {}}, "credsStore": "test"}"#]
    {
        registries.engines.write("/root/.docker/config.json", config);
        registries.empty_cache();
        registries.pulls("localhost:5000/app:small");
    }
    registries.empty_cache();
    registries.engines.write(helper, "#!/bin/sh\necho credentials not found in native keychain; exit 1\n");
    assert!(registries.refuses("localhost:5000/app:small").contains("docker login"));
    registries.engines.write(helper, "#!/bin/sh\necho the keys are; echo lost >&2; exit 1\n");
    let refused = registries.refuses("localhost:5000/app:small");
    assert!(refused.ends_with("docker-credential-test fails: the keys are lost"), "{refused}");
    let _ = registries.says(&format!("rm {helper}"));
    let refused = registries.refuses("localhost:5000/app:small");
    assert!(refused.contains("cannot run docker-credential-test, the credential helper"), "{refused}");
}

#[test]
fn token_servers() {
    let mut registries = Registries::new();
    let _ = registries.says(CERTIFICATES);
    let token = registries.says(TOKEN);
    let (server, heads) = registries.server(move |head, stream| {
        if head.contains(&format!("authorization: Basic {BASE64}")) {
            respond(stream, "200 OK", "", format!(r#"{{"token": "{token}"}}"#).as_bytes());
        } else {
            respond(stream, "401 Unauthorized", "", b"");
        }
    });
    let settings = format!(
        "auth:\n  token:\n    realm: http://{server}/token\n    service: service\n    issuer: issuer\n    \
         rootcertbundle: /tls/ca.crt\n"
    );
    registries.keep(5000, &settings);
    let refused = registries.refuses("localhost:5000/app:small");
    assert!(refused.contains("log in, as by `docker login localhost:5000`"), "{refused}");
    let config = format!(r#"{{"auths": {{"localhost:5000": {{"auth": "{BASE64}"}}}}}}"#);
    registries.engines.write("/root/.docker/config.json", &config);
    registries.pulls("localhost:5000/app:small");
    let asked = heads.with("GET /token?service=service&scope=repository%3Aapp%3Apull ");
    assert_eq!(asked.len(), 2, "once without credentials, and once with them: {asked:?}");
    let refused = registries.refuses("localhost:5000/other:small");
    assert!(refused.contains("localhost:5000 refuses the token that its token server gave for other"), "{refused}");
    // Over TLS, the credentials do not go out in plain text.
    let tls = "http:\n  addr: 127.0.0.1:5001\n  tls:\n    certificate: /tls/tls.crt\n    key: /tls/tls.key\n";
    registries.keep(5001, &format!("{tls}{settings}"));
    registries.engines.write("/root/.docker/config.json", &config.replace("5000", "5001"));
    let refused = registries.refuses("--tls-ca /tls/ca.crt localhost:5001/app:small");
    assert!(refused.contains("which is not encrypted"), "{refused}");
}

/// A proxy before the registry at port 5000. In the middle of the first blob that is large, it does `amid`, and breaks
/// the connection.
fn proxy(registries: &Registries, amid: impl FnOnce() + Send + 'static) -> (String, Heads) {
    let amid = Mutex::new(Some(amid));
    registries.server(move |head, stream| {
        let mut answer = ask(head);
        let amid = if answer.len() > LARGE / 2 { amid.lock().unwrap().take() } else { None };
        if amid.is_some() {
            answer.truncate(LARGE / 2);
        }
        let _ = stream.write_all(&answer);
        amid.into_iter().for_each(|amid| amid());
    })
}

/// What the registry at port 5000 answers to a request.
fn ask(head: &str) -> Vec<u8> {
    let mut answer = Vec::new();
    let head = head.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let _ = TcpStream::connect("127.0.0.1:5000").and_then(|mut registry| {
        registry.write_all(head.as_bytes())?;
        registry.read_to_end(&mut answer)
    });
    answer
}

/// The offset at which the only request for a part begins.
fn resumed_at(heads: &Heads) -> u64 {
    let parts = heads.with("range: bytes=");
    assert_eq!(parts.len(), 1, "{parts:?}");
    let (offset, _) = parts[0].split_once("range: bytes=").unwrap().1.split_once('-').unwrap();
    offset.parse().unwrap()
}

#[test]
fn a_broken_connection_is_resumed() {
    let mut registries = Registries::new();
    registries.keep(5000, "");
    let (address, heads) = proxy(&registries, || ());
    registries.pulls(&format!("{address}/app:large"));
    let offset = resumed_at(&heads);
    assert!(offset > 0 && offset < LARGE as u64 / 2, "{offset}");
    assert_eq!(registries.cache().1, Vec::<PathBuf>::new());
}

#[test]
fn a_registry_is_killed_amid_a_download() {
    let mut registries = Registries::new();
    registries.keep(5000, "");
    let registry = registries.running[0].nix_pid();
    let (address, heads) = proxy(&registries, move || kill(registry, Signal::SIGKILL).unwrap());
    let refused = registries.refuses(&format!("{address}/app:large"));
    assert!(refused.contains(&format!("no connection to {address}")), "{refused}");
    let (blobs, parts) = registries.cache();
    assert_eq!((blobs.len(), parts.len()), (2, 1), "a manifest, a config and a part: {blobs:?}, {parts:?}");
    let length = registries.engines.host.inside(|| fs::metadata(&parts[0]).unwrap().len());
    assert!(length > 0);
    heads.0.lock().unwrap().clear();

    registries.running.clear();
    registries.keep(5000, "");
    registries.pulls(&format!("{address}/app:large"));
    assert_eq!(resumed_at(&heads), length);
    wait_until("the registry's log of a part", || registries.running[0].stdout().contains(" 206 "));
    assert_eq!(registries.cache().1, Vec::<PathBuf>::new());

    // A part with other bytes is thrown away.
    let blob = parts[0].with_extension("");
    registries.engines.host.inside(|| fs::remove_file(blob).and_then(|()| fs::write(&parts[0], "wrong")).unwrap());
    let refused = registries.refuses("localhost:5000/app:large");
    assert!(refused.contains("its content has the digest sha256:"), "{refused}");
    assert_eq!(registries.cache().1, Vec::<PathBuf>::new());
    registries.pulls("localhost:5000/app:large");
}

#[test]
fn two_runs_share_a_download() {
    let mut registries = Registries::new();
    registries.keep(5000, "");
    let (address, heads) = registries.server(|head, stream| _ = stream.write_all(&ask(head)));
    let line = |n: u8| format!("XDG_CACHE_HOME=/var/lib/cache kontena-image {address}/app:large -o /tmp/out{n}");
    let both: Vec<Running> = (0..4).map(|n| registries.engines.sh(&line(n)).start()).collect();
    for running in both {
        let _ = running.finish().ok();
    }
    assert_eq!(registries.cache().1, Vec::<PathBuf>::new());
    assert_eq!(heads.with("/blobs/").len(), 2, "the config and the layer: {:?}", heads.with("/blobs/"));
}

/// A layer that no one has.
const HEX: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

/// A manifest with one layer.
fn manifest(config: &str, size: usize, kind: &str, url: &str) -> String {
    format!(
        r#"{{"schemaVersion": 2, "config": {{"mediaType": "application/vnd.oci.image.config.v1+json", "digest":
        "sha256:{config}", "size": {size}}}, "layers": [{{"mediaType": "application/vnd.{kind}", "digest":
        "sha256:{HEX}", "size": 5{url}}}]}}"#
    )
}

#[test]
fn registries_that_lie() {
    let registries = Registries::without_images();
    let config = format!(
        r#"{{"os": "linux", "architecture": "amd64", "rootfs": {{"type": "layers", "diff_ids": ["sha256:{HEX}"]}}}}"#
    );
    registries.engines.write("/tmp/config", &config);
    let hash = registries.says("sha256sum < /tmp/config")[..64].to_owned();
    let tar = "oci.image.layer.v1.tar";
    let of_tar = |size: usize| manifest(&hash, size, tar, "");
    let good = of_tar(config.len());
    let foreign =
        manifest(&hash, 10, "docker.image.rootfs.foreign.diff.tar.gzip", r#", "urls": ["http://127.0.0.1:9/x\ny"]"#);
    let cases: Vec<(&str, String, Vec<u8>, &str)> = vec![
        ("large", " ".repeat(5 << 20), vec![], "manifest is larger than 4194304 bytes"),
        ("html", "<html>".into(), vec![], "manifest is not JSON"),
        (
            "type",
            manifest(&hash, 10, "oci.image.layer.v1.tar+xz", ""),
            vec![],
            "has the unknown media type application/vnd.oci.image.layer.v1.tar+xz",
        ),
        (
            "foreign",
            foreign,
            vec![],
            "is not in the registry, but at http://127.0.0.1:9/x y: kontena-image does not follow",
        ),
        ("config", of_tar(5 << 20), vec![], "has 5242880 bytes: more than 4194304"),
        ("config-size", of_tar(3), vec![], "it is larger than the 3 bytes that the manifest says"),
        (
            "digest",
            good.clone(),
            b"world".to_vec(),
            "its content has the digest sha256:486ea46224d1bb4fb680f34f7c9ad96a8f24ec88be73ea8e5a6c65260e9cb8a7",
        ),
        ("longer", good.clone(), b"hello, world".to_vec(), "it is larger than the 5 bytes that the manifest says"),
        ("shorter", good.clone(), b"hell".to_vec(), "ends the connection too early"),
        ("huge", good.replace("\"size\": 5", "\"size\": 1000000000000000000"), vec![], "has space for"),
        ("schema", r#"{"schemaVersion": 1}"#.into(), vec![], "schema 1, which is obsolete"),
        ("index", r#"{"schemaVersion": 2, "manifests": []}"#.into(), vec![], "index is empty"),
    ];
    let table = cases.clone();
    let (address, _) = registries.server(move |head, stream| {
        let case = table.iter().find(|case| head.contains(&format!("/v2/{}/", case.0)));
        match case {
            Some((_, manifest, ..)) if head.contains("/manifests/") => {
                respond(stream, "200 OK", "", manifest.as_bytes())
            }
            Some(_) if head.contains(&hash) => respond(stream, "200 OK", "", config.as_bytes()),
            Some((_, _, layer, _)) => respond(stream, "200 OK", "", layer),
            None => respond(stream, "200 OK", "", b"{}"),
        }
    });
    for (name, _, _, reason) in cases {
        let refused = registries.refuses(&format!("{address}/{name}"));
        assert!(refused.contains(reason), "{name}: {refused}");
        let layer = PathBuf::from(CACHE).join(HEX);
        assert!(!registries.cache().0.contains(&layer), "{name}");
    }
    let refused = registries.refuses(&format!("{address}/html@sha256:{HEX}"));
    assert!(refused.contains("manifest has the digest sha256:"), "{refused}");
}

#[test]
fn credentials_stay_with_their_registry() {
    let registries = Registries::without_images();
    let (other, heads) = registries.server(|_, stream| respond(stream, "404 Not Found", "", b""));
    let location = format!("Location: http://{other}/elsewhere\r\n");
    let (address, own) = registries.server(move |head, stream| {
        if head.contains("/manifests/") && head.contains("authorization: Basic ") {
            respond(stream, "307 Temporary Redirect", &location, b"");
        } else {
            respond(stream, "401 Unauthorized", "WWW-Authenticate: Basic realm=\"a\"\r\n", b"");
        }
    });
    let config = format!(r#"{{"auths": {{"{address}": {{"auth": "{BASE64}"}}}}}}"#);
    registries.engines.write("/root/.docker/config.json", &config);
    let refused = registries.refuses(&format!("{address}/app"));
    assert!(refused.contains("says: 404 Not Found"), "{refused}");
    assert_eq!(own.with("authorization: ").len(), 1);
    assert_eq!(heads.with("/elsewhere").len(), 1);
    assert_eq!(heads.with("authorization: "), Vec::<String>::new());
}

#[test]
fn registries_without_end() {
    let registries = Registries::without_images();
    let challenge = "WWW-Authenticate: Bearer realm=\"http://REALM/token\",service=\"s\"\r\n";
    let (address, heads) = registries.server(move |head, stream| {
        let host = head.split("host: ").nth(1).unwrap().lines().next().unwrap();
        if head.starts_with("GET /token?") {
            respond(stream, "200 OK", "", br#"{"access_token": "never enough"}"#);
        } else if head.contains("/silent/") {
            thread::sleep(Duration::from_secs(60));
        } else if head.contains("/loop/") {
            respond(stream, "302 Found", "Location: /v2/loop/manifests/latest\r\n", b"");
        } else if head.contains("/busy/") {
            respond(stream, "503 Service Unavailable", "", b"<html>\x1b[31m");
        } else {
            respond(stream, "401 Unauthorized", &challenge.replace("REALM", host), b"");
        }
    });
    for (name, reason, requests) in [
        ("greedy", "refuses the token that its token server gave for greedy", 2),
        ("loop", "redirects wrongly: more than 10 redirects", 11),
        ("busy", "says: 503 Service Unavailable", 4),
        ("silent", "sends nothing for 3 seconds", 4),
    ] {
        let timeout = if name == "silent" { "--timeout 3 " } else { "" };
        let refused = registries.refuses(&format!("{timeout}{address}/{name}"));
        assert!(refused.contains(reason), "{name}: {refused}");
        assert_eq!(heads.with(&format!("/v2/{name}/")).len(), requests, "{name}");
    }
    assert_eq!(registries.cache(), (Vec::new(), Vec::new()));
}
