// libseccomp's filter of a profile, and what a filter costs.
//
// libseccomp compile ARCH OPTIMIZE < RULES > FILTER
//   RULES are lines: `default ACTION`, `arch NAME`, and `rule ACTION NAME` followed by conditions, each ARGUMENT
//   OPERATOR VALUE SECOND; all of them numbers, but for names. OPTIMIZE is 1, or 2 for a tree. For each name of a
//   rule and each architecture, standard error gets `ARCH NAME NUMBER`.
// libseccomp time CALLS [FILTER]
//   Installs a filter, and prints the nanoseconds of a getppid(2), a read(2) of a byte, a personality(2) that asks, and
//   a call that no kernel has.
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MOST_ARCHES = 8, MOST_CONDITIONS = 6, NO_CALL = 999 };

static int compile(const char *arch, const char *optimize)
{
	uint32_t arches[MOST_ARCHES] = { seccomp_arch_resolve_name(arch) };
	int count = 1;
	char *line = NULL;
	size_t room = 0;
	scmp_filter_ctx context = NULL;

	while (getline(&line, &room, stdin) > 0) {
		char *word = strtok(line, " \n");

		if (!strcmp(word, "default")) {
			context = seccomp_init(strtoul(strtok(NULL, " \n"), NULL, 0));
			if (!context)
				errx(1, "seccomp_init");
			// This machine's is the first one, wanted or not.
			if (arches[0] != seccomp_arch_native()) {
				seccomp_arch_add(context, arches[0]);
				seccomp_arch_remove(context, SCMP_ARCH_NATIVE);
			}
			if (seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, atoi(optimize)))
				errx(1, "seccomp_attr_set");
		} else if (!strcmp(word, "arch")) {
			uint32_t other = seccomp_arch_resolve_name(strtok(NULL, " \n"));
			int failed = seccomp_arch_add(context, other);

			if (failed && failed != -EEXIST)
				errx(1, "seccomp_arch_add: %s", strerror(-failed));
			if (!failed && count < MOST_ARCHES)
				arches[count++] = other;
		} else {
			uint32_t action = strtoul(strtok(NULL, " \n"), NULL, 0);
			const char *name = strtok(NULL, " \n");
			struct scmp_arg_cmp conditions[MOST_CONDITIONS];
			unsigned int length = 0;
			int call = seccomp_syscall_resolve_name(name), failed;

			while ((word = strtok(NULL, " \n"))) {
				conditions[length].arg = atoi(word);
				conditions[length].op = atoi(strtok(NULL, " \n"));
				conditions[length].datum_a = strtoull(strtok(NULL, " \n"), NULL, 0);
				conditions[length++].datum_b = strtoull(strtok(NULL, " \n"), NULL, 0);
			}
			for (int i = 0; i < count; i++)
				fprintf(stderr, "%#x %s %d\n", arches[i], name,
					seccomp_syscall_resolve_name_arch(arches[i], name));
			if (call == __NR_SCMP_ERROR)
				continue;
			failed = seccomp_rule_add_array(context, action, call, length, conditions);
			// The default's own action, and a call that the architecture has not.
			if (failed && failed != -EACCES && failed != -EDOM && failed != -EEXIST)
				errx(1, "seccomp_rule_add %s: %s", name, strerror(-failed));
		}
	}
	return seccomp_export_bpf(context, 1) ? 1 : 0;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return time.tv_sec * 1e9 + time.tv_nsec;
}

static void install(const char *path)
{
	static struct sock_filter code[4096];
	struct sock_fprog program = { .filter = code };
	int file = open(path, O_RDONLY);

	program.len = read(file, code, sizeof(code)) / sizeof(code[0]);
	close(file);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
		err(1, "install %s", path);
}

static int measure(long calls, const char *filter)
{
	int zero = open("/dev/zero", O_RDONLY);
	char byte;
	double start;

	if (filter)
		install(filter);
#define TIME(call)                                                                                                     \
	start = now();                                                                                                 \
	for (long i = 0; i < calls; i++)                                                                               \
		(void)(call);                                                                                          \
	printf("%.2f ", (now() - start) / calls);
	TIME(syscall(SYS_getppid));
	TIME(syscall(SYS_read, zero, &byte, 1));
	TIME(syscall(SYS_personality, 0xffffffff));
	TIME(syscall(NO_CALL));
	puts("");
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "compile"))
		return compile(argv[2], argv[3]);
	if (argc >= 3 && !strcmp(argv[1], "time"))
		return measure(atol(argv[2]), argv[3]);
	errx(2, "compile ARCH OPTIMIZE, or time CALLS [FILTER]");
}
