use super::*;

fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Boolean(value) => value.to_string(),
        Value::Number(digits) => (*digits).into(),
        Value::Text(text) => format!("{text:?}"),
        Value::Array(items) => format!("{:?}", items.iter().map(shown).collect::<Vec<_>>()).replace('"', "'"),
        Value::Object(members) => {
            let members: Vec<_> = members.iter().map(|(name, value)| format!("{name}={}", shown(value))).collect();
            format!("{{{}}}", members.join(","))
        }
    }
}

fn read(text: &[u8]) -> Result<String, String> {
    parse(text).map(|value| shown(&value))
}

#[test]
fn values_are_read() {
    for (text, value) in [
        ("null", "null"),
        (" true\n", "true"),
        ("false\r\n\t ", "false"),
        ("0", "0"),
        ("-0", "-0"),
        ("18446744073709551615", "18446744073709551615"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("1.50", "1.50"),
        ("1e3", "1e3"),
        ("-2E-7", "-2E-7"),
        ("9.1e+2", "9.1e+2"),
        (r#""""#, r#""""#),
        (r#""a ü € 😀""#, r#""a ü € 😀""#),
        (r#""\"\\\/\b\f\n\r\t""#, r#""\"\\/\u{8}\u{c}\n\r\t""#),
        (r#""\u0041\u00fc\u20AC\ud83d\ude00.""#, r#""Aü€😀.""#),
        (r#""\uFFFF\ue000\u0000""#, r#""\u{ffff}\u{e000}\0""#),
        ("[]", "[]"),
        ("[ 1 , \"a\",[ ] ,{ }]", r"['1', '\'a\'', '[]', '{}']"),
        ("{}", "{}"),
        (r#"{ "a" : 1 , "b":{"\u0063":[]}}"#, "{a=1,b={c=[]}}"),
        (r#"{"":0,"a":1,"a":2}"#, "{=0,a=1,a=2}"),
    ] {
        assert_eq!(read(text.as_bytes()).map(|shown| shown.replace("\\\\'", "\\'")), Ok(value.into()), "{text}");
    }
}

const DIGIT: &str = "expected a digit";
const HALF: &str = "half a character: expected two \\u that belong together";

/// Texts that are no JSON, and why.
const BAD: &[(&[u8], &str)] = &[
    (b"", VALUE),
    (b" ", VALUE),
    (b"nul", VALUE),
    (b"True", VALUE),
    (b"'a'", VALUE),
    (b"+1", VALUE),
    (b".5", VALUE),
    (b"NaN", VALUE),
    (b"\xef\xbb\xbf1", VALUE),
    (b"// a", VALUE),
    (b"[", VALUE),
    (b"[1,]", VALUE),
    (b"[,]", VALUE),
    (b"{\"a\":}", VALUE),
    (b"-", DIGIT),
    (b"-a", DIGIT),
    (b"1.", DIGIT),
    (b"1.e2", DIGIT),
    (b"1e", DIGIT),
    (b"1e+", DIGIT),
    (b"01", "expected nothing behind the value"),
    (b"1 2", "expected nothing behind the value"),
    (b"{} {}", "expected nothing behind the value"),
    (b"1\0", "expected nothing behind the value"),
    (b"nullx", "expected nothing behind the value"),
    (b"[1 2]", "expected , or ]"),
    (b"[1}", "expected , or ]"),
    (b"{\"a\":1", "expected , or }"),
    (b"{\"a\":1]", "expected , or }"),
    (b"{", "expected a name in quotes"),
    (b"{a:1}", "expected a name in quotes"),
    (b"{1:1}", "expected a name in quotes"),
    (b"{\"a\":1,}", "expected a name in quotes"),
    (b"{\"a\"}", "expected : and a value"),
    (b"{\"a\" 1}", "expected : and a value"),
    (b"\"", "a string without an end: expected \""),
    (b"\"a\\\"", "a string without an end: expected \""),
    (b"\"a\tb\"", "a control character in a string: use an escape"),
    (b"\"a\0b\"", "a control character in a string: use an escape"),
    (b"\"\\x\"", ESCAPE),
    (b"\"\\", ESCAPE),
    (b"\"\\u", ESCAPE),
    (b"\"\\u12", ESCAPE),
    (b"\"\\u12g4\"", ESCAPE),
    (b"\"\\u+123\"", ESCAPE),
    (b"\"\\u12\xc3\xbc\"", ESCAPE),
    (b"\"\\U0041\"", ESCAPE),
    (b"\"\\ud83d\"", HALF),
    (b"\"\\ude00\"", HALF),
    (b"\"\\ud83d\\n\"", HALF),
    (b"\"\\ud83d\\ud83d\"", HALF),
    (b"\"\\ud83dude00\"", HALF),
    (b"\"\xff\"", "not UTF-8"),
    (b"\"\xc3\"", "not UTF-8"),
    (b"\"\xed\xa0\xbd\"", "not UTF-8"),
];

#[test]
fn what_is_no_json_is_refused() {
    for (text, hint) in BAD {
        let shown = String::from_utf8_lossy(text);
        assert_eq!(read(text), Err(format!("line 1: {hint}")), "{shown}");
        let later = [b"[\n\n1, ", *text].concat();
        assert!(read(&later).is_err_and(|error| error.starts_with("line 3: ")), "{shown}");
    }
}

#[test]
fn nesting_has_a_limit() {
    let nested = |depth| ["[".repeat(depth), "]".repeat(depth)].concat();
    assert!(parse(nested(DEPTH + 1).as_bytes()).is_ok());
    for depth in [DEPTH + 2, 1_000_000] {
        assert_eq!(read(nested(depth).as_bytes()), Err("line 1: nested too deeply".into()));
        assert_eq!(read("{\"a\":".repeat(depth).as_bytes()), Err("line 1: nested too deeply".into()));
    }
}

/// A piece of a config.json of the OCI's.
const CONFIG: &str = r#"{
    "ociVersion": "1.2.1",
    "process": {
        "terminal": true, "user": {"uid": 0, "gid": 65534, "additionalGids": [1, 4294967295]}, "cwd": "/a\u002fb\n",
        "args": ["/bin/sh", "-c", "echo \"\ud83d\ude00\""], "oomScoreAdj": -1000, "noNewPrivileges": false,
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 18446744073709551615, "soft": 1024}], "consoleSize": null
    },
    "linux": {
        "resources": {"memory": {"limit": -1}, "cpu": {"quota": 1e5}, "pids": {"limit": 1.0}},
        "maskedPaths": [], "sysctl": {"net.ipv4.ip_forward": "1", "a": "0", "a": "1"},
        "seccomp": {"syscalls": [{"names": ["read"]}, {"names": ["personality"], "args": [{"value": "8"}]}]}
    }
}"#;

#[test]
fn places_are_found_by_name() {
    let value = parse(CONFIG.as_bytes()).unwrap();
    let root = Node::root(&value);
    let (process, linux) = (root.get("process"), root.get("linux"));
    assert_eq!(root.get("ociVersion").text(), Ok("1.2.1"));
    assert_eq!(process.get("cwd").text(), Ok("/a/b\n"));
    assert_eq!((process.get("terminal").boolean(), process.get("noNewPrivileges").boolean()), (Ok(true), Ok(false)));
    let gids: Vec<u32> =
        process.get("user").get("additionalGids").items().unwrap().map(|gid| gid.number().unwrap()).collect();
    assert_eq!(gids, [1, u32::MAX]);
    assert_eq!(process.get("oomScoreAdj").number(), Ok(-1000i64));
    let limits: Vec<_> = process.get("rlimits").items().unwrap().collect();
    assert_eq!((limits[0].get("hard").number(), limits[0].get("soft").number()), (Ok(u64::MAX), Ok(1024u16)));
    assert_eq!(linux.get("resources").get("memory").get("limit").number(), Ok(-1i64));
    // Of two, the last one; null is as good as nothing.
    assert_eq!(linux.get("sysctl").get("a").text(), Ok("1"));
    let sysctls: Vec<_> = linux.get("sysctl").members().unwrap().map(|(name, value)| (name, value.text())).collect();
    assert_eq!(sysctls, [("net.ipv4.ip_forward", Ok("1")), ("a", Ok("0")), ("a", Ok("1"))]);
    for missing in [process.get("consoleSize"), root.get("hooks"), root.get("hooks").get("prestart")] {
        assert!(missing.is_missing() && missing.given().is_none());
        assert_eq!((missing.items().unwrap().count(), missing.members().unwrap().count()), (0, 0));
    }
    assert!(process.given().is_some() && linux.get("maskedPaths").given().is_some());
}

#[test]
fn errors_have_the_path() {
    let value = parse(CONFIG.as_bytes()).unwrap();
    let root = Node::root(&value);
    let (process, linux) = (root.get("process"), root.get("linux"));
    let cpu = |name| linux.get("resources").get(name);
    let rule = linux.get("seccomp").get("syscalls").items().unwrap().nth(1).unwrap();
    let argument = rule.get("args").items().unwrap().next().unwrap();
    let number = |node: Node<'_>| node.number::<u32>().unwrap_err();
    for (error, expected) in [
        (number(process.get("user")), "process.user: expected a number"),
        (number(process.get("user").get("umask")), "process.user.umask: missing: expected a number"),
        (number(root.get("hooks").get("a")), "hooks: missing: expected a number"),
        (number(process.get("consoleSize").get("height")), "process.consoleSize: missing: expected a number"),
        (number(process.get("oomScoreAdj")), "process.oomScoreAdj: the number is out of range"),
        (number(cpu("cpu").get("quota")), "linux.resources.cpu.quota: write it without . and e"),
        (number(cpu("pids").get("limit")), "linux.resources.pids.limit: write it without . and e"),
        (number(argument.get("value")), "linux.seccomp.syscalls[1].args[0].value: expected a number"),
        (argument.wrong("why"), "linux.seccomp.syscalls[1].args[0]: why"),
        (process.text().unwrap_err(), "process: expected a string"),
        (process.get("args").boolean().unwrap_err(), "process.args: expected true or false"),
        (process.get("args").members().map(|_| ()).unwrap_err(), "process.args: expected an object"),
        (process.get("cwd").items().map(|_| ()).unwrap_err(), "process.cwd: expected an array"),
        (root.text().unwrap_err(), "expected a string"),
    ] {
        assert_eq!(error, expected);
    }
}

/// Looks at all of it, and at the path of each value.
fn walk(node: Node<'_>) -> usize {
    let _ = (node.text(), node.boolean(), node.number::<u64>(), node.number::<i64>(), node.get("a").text());
    let items = node.items().map_or(0, |items| items.map(walk).sum());
    1 + items + node.members().map_or(0, |members| members.map(|(_, member)| walk(member)).sum())
}

#[test]
fn bytes_that_were_changed_are_read_to_an_end() {
    let (mut state, mut good) = (0x9e37_79b9_7f4a_7c15u64, 0);
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize % below
    };
    const PIECES: [&[u8]; 12] =
        [b"{", b"}", b"[", b"]", b",", b":", b"\"", b"\\u", b"1e9", b"\xff", b"null", b"18446744073709551616"];
    for _ in 0..10_000 {
        let mut bent = CONFIG.as_bytes().to_vec();
        for _ in 0..1 + random(4) {
            let at = random(bent.len().max(1));
            match random(4) {
                _ if bent.is_empty() => {}
                0 => bent[at] = random(256) as u8,
                1 => drop(bent.remove(at)),
                2 => drop(bent.splice(at..at, PIECES[random(PIECES.len())].iter().copied())),
                _ => bent.truncate(at.max(1)),
            }
        }
        if let Ok(value) = parse(&bent) {
            assert!(walk(Node::root(&value)) < bent.len() + 2);
            good += 1;
        }
    }
    assert!(good > 0, "none of them is JSON");
}
