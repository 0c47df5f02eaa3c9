/*
 * nginx variables that tell what the container looks like from inside: $hello_hostname, $hello_memory, ...
 *
 * Each one is evaluated anew for every request, and reads only what the nginx worker itself can see (/proc, the
 * mounted cgroup, its own interfaces), so the page shows facts and not what somebody configured.
 * What cannot be read is "not available": a variable never fails a request.
 */
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <sys/statvfs.h>

#define CGROUP  "/sys/fs/cgroup/"
#define UNKNOWN "not available"

/* In the kernel's order: bit 0 is chown (linux/capability.h). */
static const char *const capabilities[] = {
    "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
    "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner",
    "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice",
    "sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap",
    "mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf",
    "checkpoint_restore"
};

/* Gives the variable a copy of `text`, which lives as long as the request. */
static ngx_int_t answer(ngx_http_request_t *r, ngx_http_variable_value_t *v, const char *text)
{
    v->len = ngx_strlen(text);
    v->data = ngx_pnalloc(r->pool, v->len + 1);
    if (v->data == NULL) {
        return NGX_ERROR;
    }
    ngx_memcpy(v->data, text, v->len + 1);
    v->valid = 1;
    v->no_cacheable = 1;
    v->not_found = 0;
    return NGX_OK;
}

/* The start of a small file as a string, without the last newline; 0 when it cannot be read. */
static int slurp(const char *path, char *text, size_t size)
{
    int      fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t  n;

    if (fd == -1) {
        return 0;
    }
    n = read(fd, text, size - 1);
    close(fd);
    if (n < 0) {
        return 0;
    }
    if (n > 0 && text[n - 1] == '\n') {
        n--;
    }
    text[n] = '\0';
    return 1;
}

/* The value of one line of /proc/self/status, such as "NoNewPrivs"; 0 when there is no such line. */
static int status_line(const char *name, char *value, size_t size)
{
    char   text[4096], *line;
    size_t length = strlen(name);

    if (!slurp("/proc/self/status", text, sizeof(text))) {
        return 0;
    }
    for (line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        if (strncmp(line, name, length) == 0 && line[length] == ':') {
            line += length + 1;
            snprintf(value, size, "%s", line + strspn(line, " \t"));
            return 1;
        }
    }
    return 0;
}

static ngx_int_t get_hostname(ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data)
{
    char  name[256];

    return answer(r, v, gethostname(name, sizeof(name)) == 0 ? name : UNKNOWN);
}

static ngx_int_t get_worker(ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data)
{
    char  text[96];

    snprintf(text, sizeof(text), "pid %d, uid %d, gid %d", (int) getpid(), (int) getuid(), (int) getgid());
    return answer(r, v, text);
}

/* A file's text as it is. */
static ngx_int_t get_file(ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t path)
{
    char  text[256];

    return answer(r, v, slurp((const char *) path, text, sizeof(text)) ? text : UNKNOWN);
}

/* A namespace's kind and inode number, as in pid:[4026531836]. */
static ngx_int_t get_namespace(ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t path)
{
    char     text[64];
    ssize_t  n = readlink((const char *) path, text, sizeof(text) - 1);

    if (n < 0) {
        return answer(r, v, UNKNOWN);
    }
    text[n] = '\0';
    return answer(r, v, text);
}

/* memory.max and pids.max: "max", or a number, here of `unit`s. */
static ngx_int_t limit(ngx_http_request_t *r, ngx_http_variable_value_t *v, const char *path, const char *unit,
    unsigned long long divisor)
{
    char                text[64];
    unsigned long long  value;

    if (!slurp(path, text, sizeof(text))) {
        return answer(r, v, UNKNOWN);
    }
    if (sscanf(text, "%llu", &value) != 1) {
        return answer(r, v, "no limit");
    }
    snprintf(text, sizeof(text), "%.4g %s", (double) value / divisor, unit);
    return answer(r, v, text);
}

static ngx_int_t get_memory(ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data)
{
    return limit(r, v, CGROUP "memory.max", "MiB", 1024 * 1024);
}

static ngx_int_t get_pids(ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data)
{
    return limit(r, v, CGROUP "pids.max", "processes and threads", 1);
}

/* cpu.max: "QUOTA PERIOD" in microseconds, or "max PERIOD". */
static ngx_int_t get_cpus(ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data)
{
    char    text[64];
    double  quota, period;

    if (!slurp(CGROUP "cpu.max", text, sizeof(text))) {
        return answer(r, v, UNKNOWN);
    }
    if (sscanf(text, "%lf %lf", &quota, &period) != 2 || period <= 0) {
        return answer(r, v, "no limit");
    }
    snprintf(text, sizeof(text), "%.3g CPUs", quota / period);
    return answer(r, v, text);
}

/* A capability set of /proc/self/status, by name. */
static ngx_int_t get_capabilities(ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t set)
{
    char                text[1024];
    size_t              used = 0, bit;
    unsigned long long  mask;

    if (!status_line((const char *) set, text, sizeof(text)) || sscanf(text, "%llx", &mask) != 1) {
        return answer(r, v, UNKNOWN);
    }
    text[0] = '\0';
    for (bit = 0; bit < sizeof(capabilities) / sizeof(capabilities[0]); bit++) {
        if (mask >> bit & 1) {
            used += snprintf(text + used, sizeof(text) - used, "%s%s", used ? ", " : "", capabilities[bit]);
        }
    }
    return answer(r, v, used ? text : "none");
}

static ngx_int_t get_no_new_privs(ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data)
{
    char  text[16];

    if (!status_line("NoNewPrivs", text, sizeof(text))) {
        return answer(r, v, UNKNOWN);
    }
    return answer(r, v, text[0] == '1' ? "yes" : "no");
}

static ngx_int_t get_seccomp(ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data)
{
    char  text[16];

    if (!status_line("Seccomp", text, sizeof(text))) {
        return answer(r, v, UNKNOWN);
    }
    return answer(r, v, text[0] == '2' ? "filter" : text[0] == '1' ? "strict" : "off");
}

static ngx_int_t get_root(ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data)
{
    struct statvfs  fs;

    if (statvfs("/", &fs) == -1) {
        return answer(r, v, UNKNOWN);
    }
    return answer(r, v, fs.f_flag & ST_RDONLY ? "read-only" : "writable");
}

/* Every address of every interface which is up, as in "eth0 10.88.0.2, eth0 fe80::1". */
static ngx_int_t get_addresses(ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data)
{
    char             text[1024] = "", address[INET6_ADDRSTRLEN];
    size_t           used = 0;
    const void      *raw;
    struct ifaddrs  *all, *one;

    if (getifaddrs(&all) == -1) {
        return answer(r, v, UNKNOWN);
    }
    for (one = all; one != NULL; one = one->ifa_next) {
        if (one->ifa_addr == NULL || !(one->ifa_flags & IFF_UP)) {
            continue;
        }
        if (one->ifa_addr->sa_family == AF_INET) {
            raw = &((struct sockaddr_in *) one->ifa_addr)->sin_addr;
        } else if (one->ifa_addr->sa_family == AF_INET6) {
            raw = &((struct sockaddr_in6 *) one->ifa_addr)->sin6_addr;
        } else {
            continue;
        }
        inet_ntop(one->ifa_addr->sa_family, raw, address, sizeof(address));
        if (used + IF_NAMESIZE + sizeof(address) + 4 > sizeof(text)) {
            break;
        }
        used += sprintf(text + used, "%s%s %s", used ? ", " : "", one->ifa_name, address);
    }
    freeifaddrs(all);
    return answer(r, v, used ? text : "none");
}

#define VARIABLE(name, get, data) { ngx_string(name), NULL, get, (uintptr_t) (data), NGX_HTTP_VAR_NOCACHEABLE, 0 }
#define NAMESPACE(kind)           VARIABLE("hello_ns_" kind, get_namespace, "/proc/self/ns/" kind)

static ngx_http_variable_t variables[] = {
    VARIABLE("hello_hostname", get_hostname, 0),
    VARIABLE("hello_init", get_file, "/proc/1/comm"),
    VARIABLE("hello_worker", get_worker, 0),
    VARIABLE("hello_addresses", get_addresses, 0),
    VARIABLE("hello_root", get_root, 0),
    VARIABLE("hello_memory", get_memory, 0),
    VARIABLE("hello_pids", get_pids, 0),
    VARIABLE("hello_cpus", get_cpus, 0),
    VARIABLE("hello_cap_bounding", get_capabilities, "CapBnd"),
    VARIABLE("hello_cap_effective", get_capabilities, "CapEff"),
    VARIABLE("hello_no_new_privs", get_no_new_privs, 0),
    VARIABLE("hello_seccomp", get_seccomp, 0),
    NAMESPACE("pid"), NAMESPACE("mnt"), NAMESPACE("uts"), NAMESPACE("ipc"),
    NAMESPACE("net"), NAMESPACE("cgroup"), NAMESPACE("user"),
    ngx_http_null_variable
};

static ngx_int_t add_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t  *from, *to;

    for (from = variables; from->name.len; from++) {
        to = ngx_http_add_variable(cf, &from->name, from->flags);
        if (to == NULL) {
            return NGX_ERROR;
        }
        to->get_handler = from->get_handler;
        to->data = from->data;
    }
    return NGX_OK;
}

static ngx_http_module_t context = {
    .preconfiguration = add_variables,
};

ngx_module_t ngx_http_hello_module = {
    NGX_MODULE_V1, &context, NULL, NGX_HTTP_MODULE, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NGX_MODULE_V1_PADDING
};
