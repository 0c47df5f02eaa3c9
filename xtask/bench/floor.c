/*
 * The floor: the least that a container can cost on this kernel.
 *
 *     floor [-m|-i] ROOTFS CGROUP COMMAND [ARG...]
 *
 * Makes the leaf cgroup CGROUP, starts COMMAND in it and in its own pid, mount, uts, ipc, net and cgroup namespaces,
 * with ROOTFS as its root and a fresh /proc; waits for it, and removes the leaf. No limits, no privileges taken away,
 * no PID 1 of its own, no network, no error messages: whatever a container runtime adds to this is its price.
 *
 * With -m it also makes the mounts that podman and kontena give every container: /dev with its devices, pts, shm,
 * mqueue, /sys, cgroup2, the masked and the read-only paths. With -i it does that in a PID 1 of its own, as kontena
 * has it: this program, executed once more from a memfd, which forks COMMAND and waits for it. That much such a
 * container costs in any language.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif
#ifndef SYS_clone3
#define SYS_clone3 435
#endif

/* struct clone_args of linux/sched.h, which musl-gcc does not find. */
struct clone_arguments {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

static int make(const char *type, const char *option, const char *value)
{
    int context = syscall(SYS_fsopen, type, 1 /* FSOPEN_CLOEXEC */);

    if (option) {
        syscall(SYS_fsconfig, context, 1 /* FSCONFIG_SET_STRING */, option, value, 0);
    }
    syscall(SYS_fsconfig, context, 6 /* FSCONFIG_CMD_CREATE */, NULL, NULL, 0);
    int tree = syscall(SYS_fsmount, context, 1 /* FSMOUNT_CLOEXEC */, 0);
    close(context);
    return tree;
}

static void attach(int tree, const char *target)
{
    syscall(SYS_move_mount, tree, "", AT_FDCWD, target, 4 /* MOVE_MOUNT_F_EMPTY_PATH */);
    close(tree);
}

static int copy(const char *path)
{
    return syscall(SYS_open_tree, AT_FDCWD, path, 1 /* OPEN_TREE_CLONE */);
}

/* Below the working directory. What this kernel does not have is passed over. */
static void podmans_mounts(void)
{
    static const struct {
        const char *name;
        int         major, minor;
    } devices[] = { { "null", 1, 3 }, { "zero", 1, 5 }, { "full", 1, 7 },
                    { "random", 1, 8 }, { "urandom", 1, 9 }, { "tty", 5, 0 } };
    static const char *const links[] = { "fd", "stdin", "stdout", "stderr", "core", "ptmx" };
    static const char *const files[] = { "proc/interrupts", "proc/keys", "proc/timer_list", "proc/sched_debug" };
    static const char *const directories[] = { "proc/acpi", "proc/scsi", "sys/firmware", "sys/dev/block",
                                               "sys/devices/virtual/powercap" };
    static const char *const readonly[] = { "proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger" };
    struct {
        uint64_t set, clear, propagation, userns;
    } attributes = { .set = 1 /* MOUNT_ATTR_RDONLY */ };
    int dev = make("tmpfs", "mode", "755");

    for (unsigned i = 0; i < sizeof(devices) / sizeof(*devices); i++) {
        mknodat(dev, devices[i].name, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor));
    }
    for (unsigned i = 0; i < sizeof(links) / sizeof(*links); i++) {
        symlinkat("/proc/self/fd", dev, links[i]);
    }
    mkdirat(dev, "pts", 0755);
    mkdirat(dev, "shm", 0755);
    mkdirat(dev, "mqueue", 0755);
    attach(dev, "dev");
    attach(make("devpts", "mode", "0620"), "dev/pts");
    attach(make("tmpfs", "mode", "1777"), "dev/shm");
    attach(make("mqueue", NULL, NULL), "dev/mqueue");
    attach(make("proc", NULL, NULL), "proc");
    attach(make("sysfs", NULL, NULL), "sys");
    attach(make("cgroup2", NULL, NULL), "sys/fs/cgroup");
    for (unsigned i = 0; i < sizeof(files) / sizeof(*files); i++) {
        attach(copy("dev/null"), files[i]);
    }
    for (unsigned i = 0; i < sizeof(directories) / sizeof(*directories); i++) {
        if (access(directories[i], F_OK) == 0) {
            attach(copy("dev/pts"), directories[i]);
        }
    }
    for (unsigned i = 0; i < sizeof(readonly) / sizeof(*readonly); i++) {
        int tree = copy(readonly[i]);
        syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof(attributes));
        attach(tree, readonly[i]);
    }
}

static int child(const char *rootfs, char **command, int mounts)
{
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == -1
        || mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL) == -1
        || chdir(rootfs) == -1) {
        return 125;
    }
    if (mounts) {
        podmans_mounts();
    }
    if (syscall(SYS_pivot_root, ".", ".") == -1
        || umount2(".", MNT_DETACH) == -1
        || chdir("/") == -1
        || (!mounts && mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == -1))
    {
        return 125;
    }
    execv(command[0], command);
    return 127;
}

/* The PID 1 of -i, as init ROOTFS COMMAND [ARG...]. */
static int init(char **argv)
{
    int   status;
    pid_t pid;

    pid = fork();
    if (pid == 0) {
        _exit(child(argv[0], argv + 1, 1));
    }
    return pid != -1 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 125;
}

/* This program in a sealed memfd. */
static int seal_program(void)
{
    int         program = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int         sealed = memfd_create("floor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    struct stat stat;

    fstat(program, &stat);
    sendfile(sealed, program, NULL, stat.st_size);
    fcntl(sealed, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
    close(program);
    return sealed;
}

int main(int argc, char **argv)
{
    int   leaf, status, program = -1;
    long  pid;
    int   with_init = argc > 1 && strcmp(argv[1], "-i") == 0;
    int   mounts = with_init || (argc > 1 && strcmp(argv[1], "-m") == 0);

    if (strcmp(argv[0], "init") == 0) {
        return init(argv + 1);
    }
    argc -= mounts;
    argv += mounts;
    if (argc < 4 || mkdir(argv[2], 0755) == -1 || (leaf = open(argv[2], O_PATH | O_CLOEXEC)) == -1) {
        return 125;
    }
    if (with_init) {
        program = seal_program();
    }

    struct clone_arguments arguments = {
        .flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP
            | CLONE_INTO_CGROUP,
        .exit_signal = SIGCHLD,
        .cgroup = leaf,
    };
    /* Without CLONE_VM the child goes on with a copy of our stack, as after fork. */
    pid = syscall(SYS_clone3, &arguments, sizeof(arguments));
    if (pid == 0) {
        if (with_init) {
            /* init ROOTFS COMMAND [ARG...] */
            char *rootfs = argv[1];
            argv[1] = "init";
            argv[2] = rootfs;
            syscall(SYS_execveat, program, "", argv + 1, environ, AT_EMPTY_PATH);
            _exit(125);
        }
        _exit(child(argv[1], argv + 3, mounts));
    }
    if (pid == -1 || waitpid(pid, &status, 0) == -1) {
        status = -1;
    }
    rmdir(argv[2]);
    return status != -1 && WIFEXITED(status) ? WEXITSTATUS(status) : 125;
}
