/*
 * The floor: the least that a container can cost on this kernel.
 *
 *     floor ROOTFS CGROUP COMMAND [ARG...]
 *
 * Makes the leaf cgroup CGROUP, starts COMMAND in it and in its own pid, mount, uts, ipc, net and cgroup namespaces, with
 * ROOTFS as its root and a fresh /proc; waits for it, and removes the leaf. No limits, no privileges taken away, no PID 1
 * of its own, no network, no error messages: whatever a container runtime adds to this is its price.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
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

static int child(const char *rootfs, char **command)
{
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == -1
        || mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL) == -1
        || chdir(rootfs) == -1
        || syscall(SYS_pivot_root, ".", ".") == -1
        || umount2(".", MNT_DETACH) == -1
        || chdir("/") == -1
        || mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == -1)
    {
        return 125;
    }
    execv(command[0], command);
    return 127;
}

int main(int argc, char **argv)
{
    int   leaf, status;
    long  pid;

    if (argc < 4 || mkdir(argv[2], 0755) == -1 || (leaf = open(argv[2], O_PATH | O_CLOEXEC)) == -1) {
        return 125;
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
        _exit(child(argv[1], argv + 3));
    }
    if (pid == -1 || waitpid(pid, &status, 0) == -1) {
        status = -1;
    }
    rmdir(argv[2]);
    return status != -1 && WIFEXITED(status) ? WEXITSTATUS(status) : 125;
}
