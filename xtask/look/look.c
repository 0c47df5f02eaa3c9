/*
 * A hostile look around: tries what must not work in a container, one line for each attempt, and says what came of it.
 * Run by look.sh, in kontena and in podman. Arguments are chosen so that nothing is changed where an attempt works.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOWHERE ((void *)-1L)

/* Each attempt in a process of its own, since some are answered by a signal. */
#define TRY(name, attempt)                                                                                             \
	do {                                                                                                           \
		int status;                                                                                            \
		pid_t child = fork();                                                                                  \
		if (child == 0) {                                                                                      \
			errno = 0;                                                                                     \
			long result = (long)(attempt);                                                                 \
			printf("%s|%s\n", name, result >= 0 ? "works" : strerrorname_np(errno));                       \
			fflush(stdout);                                                                                \
			_exit(0);                                                                                      \
		}                                                                                                      \
		waitpid(child, &status, 0);                                                                            \
		if (WIFSIGNALED(status))                                                                               \
			printf("%s|SIG%s\n", name, sigabbrev_np(WTERMSIG(status)));                                    \
		fflush(stdout);                                                                                        \
	} while (0)

static long call_i386(long number)
{
	__asm__ volatile("int $0x80" : "+a"(number) : : "r8", "r9", "r10", "r11", "memory");
	return number;
}

static int read_from(const char *path)
{
	char bytes[64];
	int fd = open(path, O_RDONLY);
	int length = fd < 0 ? -1 : (int)read(fd, bytes, sizeof(bytes));

	if (length == 0)
		errno = ENODATA;
	return length > 0 ? length : -1;
}

static long trace_child(void)
{
	pid_t child = fork();
	long result;
	int error;

	if (child == 0) {
		sleep(1);
		_exit(0);
	}
	result = ptrace(PTRACE_SEIZE, child, 0, 0);
	error = errno;
	kill(child, SIGKILL);
	errno = error;
	return result;
}

int main(void)
{
	TRY("unshare user", unshare(CLONE_NEWUSER));
	TRY("unshare mount", unshare(CLONE_NEWNS));
	TRY("unshare net", unshare(CLONE_NEWNET));
	TRY("unshare pid", unshare(CLONE_NEWPID));
	TRY("unshare cgroup", unshare(CLONE_NEWCGROUP));
	TRY("clone with CLONE_NEWUSER", syscall(SYS_clone, CLONE_NEWUSER|SIGCHLD, 0, 0, 0, 0));
	TRY("clone3", syscall(SYS_clone3, 0, 0));
	TRY("setns", setns(0, 0));
	TRY("mount tmpfs", mount("none", "/tmp", "tmpfs", 0, 0));
	TRY("mount bind", mount("/usr", "/tmp", 0, MS_BIND, 0));
	TRY("remount / rw", mount(0, "/", 0, MS_REMOUNT, 0));
	TRY("umount /proc/sys", umount2("/proc/sys", 0));
	TRY("mount cgroup v1", mount("none", "/tmp", "cgroup", 0, "memory"));
	TRY("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
	TRY("open_tree clone", syscall(SYS_open_tree, -100, "/", 1));
	TRY("move_mount", syscall(SYS_move_mount, -1, "", -1, "", 0));
	TRY("pivot_root", syscall(SYS_pivot_root, "/", "/"));
	TRY("chroot", chroot("/"));
	TRY("socket raw", socket(AF_INET, SOCK_RAW, 1));
	TRY("socket packet", socket(AF_PACKET, SOCK_RAW, 0));
	TRY("socket AF_ALG", socket(AF_ALG, SOCK_SEQPACKET, 0));
	TRY("socket AF_VSOCK", socket(40, SOCK_STREAM, 0));
	TRY("socket netlink route", socket(AF_NETLINK, SOCK_RAW, 0));
	TRY("socket netlink audit", socket(AF_NETLINK, SOCK_RAW, 9));
	TRY("socket AF_KEY", socket(15, SOCK_RAW, 2));
	TRY("socket AF_BLUETOOTH", socket(31, SOCK_RAW, 1));
	TRY("socket AF_XDP", socket(44, SOCK_RAW, 0));
	TRY("socket AF_CAN", socket(29, SOCK_RAW, 1));
	TRY("ptrace own child", trace_child());
	TRY("ptrace pid 1", ptrace(PTRACE_SEIZE, 1, 0, 0));
	TRY("process_vm_readv pid 1", syscall(SYS_process_vm_readv, 1, 0, 0, 0, 0, 0));
	TRY("read /proc/1/environ", read_from("/proc/1/environ"));
	TRY("pidfd_getfd", syscall(SYS_pidfd_getfd, -1, 0, 0));
	TRY("kcmp", syscall(SYS_kcmp, 1, 1, 0, 0, 0));
	TRY("read /proc/kcore", read_from("/proc/kcore"));
	TRY("read /proc/keys", read_from("/proc/keys"));
	TRY("read /proc/timer_list", read_from("/proc/timer_list"));
	TRY("read /proc/interrupts", read_from("/proc/interrupts"));
	TRY("read /proc/kmsg", read_from("/proc/kmsg"));
	TRY("read /proc/kallsyms", read_from("/proc/kallsyms"));
	TRY("read /proc/slabinfo", read_from("/proc/slabinfo"));
	TRY("read /sys/kernel/debug", read_from("/sys/kernel/debug/x"));
	TRY("write /proc/sysrq-trigger", open("/proc/sysrq-trigger", O_WRONLY));
	TRY("write kernel.core_pattern", open("/proc/sys/kernel/core_pattern", O_WRONLY));
	TRY("write net.ipv4.ip_forward", open("/proc/sys/net/ipv4/ip_forward", O_WRONLY));
	TRY("write kernel.shmmax", open("/proc/sys/kernel/shmmax", O_WRONLY));
	TRY("write /sys/kernel/mm", open("/sys/kernel/mm/ksm/run", O_WRONLY));
	TRY("write /proc/irq", open("/proc/irq/0/smp_affinity", O_WRONLY));
	TRY("mkdir in /sys/fs/cgroup", mkdir("/sys/fs/cgroup/x", 0755));
	TRY("write cgroup.procs", open("/sys/fs/cgroup/cgroup.procs", O_WRONLY));
	TRY("mknod c 1 3", mknod("/tmp/n", S_IFCHR|0666, makedev(1, 3)));
	TRY("mknod b 8 0", mknod("/tmp/b", S_IFBLK|0666, makedev(8, 0)));
	TRY("open /dev/kmsg", open("/dev/kmsg", O_RDONLY));
	TRY("open /dev/fuse", open("/dev/fuse", O_RDWR));
	TRY("open /dev/net/tun", open("/dev/net/tun", O_RDWR));
	TRY("open /dev/console", open("/dev/console", O_RDWR|O_NOCTTY));
	TRY("add_key", syscall(SYS_add_key, "user", "x", "y", 1, -3));
	TRY("keyctl", syscall(SYS_keyctl, 0, -3, 0));
	TRY("request_key", syscall(SYS_request_key, "user", "x", 0, 0));
	TRY("init_module", syscall(SYS_init_module, NOWHERE, 0, ""));
	TRY("finit_module", syscall(SYS_finit_module, -1, "", 0));
	TRY("bpf", syscall(SYS_bpf, 0, NOWHERE, 8));
	TRY("perf_event_open", syscall(SYS_perf_event_open, NOWHERE, 0, -1, -1, 0));
	TRY("kexec_load", syscall(SYS_kexec_load, 0, 0, 0, 0));
	TRY("userfaultfd", syscall(SYS_userfaultfd, 0));
	TRY("io_uring_setup", syscall(SYS_io_uring_setup, 1, NOWHERE));
	TRY("open_by_handle_at", syscall(SYS_open_by_handle_at, -1, NOWHERE, 0));
	TRY("name_to_handle_at", syscall(SYS_name_to_handle_at, -100, "/", NOWHERE, NOWHERE, 0));
	TRY("fanotify_init", syscall(SYS_fanotify_init, 0, 0));
	TRY("reboot", syscall(SYS_reboot, 0, 0, 0, 0));
	TRY("swapon", syscall(SYS_swapon, "/x", 0));
	TRY("settimeofday", syscall(SYS_settimeofday, 0, 0));
	TRY("sethostname", sethostname("x", 1));
	TRY("acct", syscall(SYS_acct, 0));
	TRY("quotactl", syscall(SYS_quotactl, 0, 0, 0, 0));
	TRY("syslog", syscall(SYS_syslog, 3, NOWHERE, 1));
	TRY("personality ADDR_NO_RANDOMIZE", syscall(SYS_personality, 0x40000));
	TRY("iopl", syscall(SYS_iopl, 3));
	TRY("ioperm", syscall(SYS_ioperm, 0, 1, 1));
	TRY("modify_ldt", syscall(SYS_modify_ldt, 0, NOWHERE, 0));
	TRY("vhangup", syscall(SYS_vhangup));
	TRY("mbind", syscall(SYS_mbind, NOWHERE, 0, 0, 0, 0, 0));
	TRY("move_pages", syscall(SYS_move_pages, 0, 0, 0, 0, 0, 0));
	TRY("memfd_secret", syscall(447, 0));
	TRY("lookup_dcookie", syscall(SYS_lookup_dcookie, 0, 0, 0));
	TRY("landlock_create_ruleset", syscall(444, 0, 0, 1));
	TRY("unknown call 500", syscall(500));
	TRY("unknown call 9999", syscall(9999));
	TRY("mseal", syscall(462, 0, 0, 0));
	TRY("cachestat", syscall(451, -1, NOWHERE, NOWHERE, 0));
	TRY("statmount", syscall(457, NOWHERE, NOWHERE, 0, 0));
	TRY("listmount", syscall(458, NOWHERE, NOWHERE, 0, 0));
	TRY("futex_wake", syscall(454, NOWHERE, 0, 0, 0));
	TRY("fchmodat2", syscall(452, -1, "", 0, 0));
	TRY("ioctl TIOCSTI", ioctl(0, TIOCSTI, "x"));
	TRY("ioctl TIOCLINUX", ioctl(0, TIOCLINUX, "x"));
	TRY("int 0x80 getpid", call_i386(20));
	TRY("x32 getpid", syscall(0x40000000|39));
	return 0;
}
