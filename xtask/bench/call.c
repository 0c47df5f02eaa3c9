/*
 * What one system call costs, in nanoseconds:
 *
 *     call COUNT
 *
 * getpid(2), whose number alone decides, so that the kernel remembers the filter's verdict (since Linux 5.11); and
 * personality(0xffffffff), whose argument the filter has to look at each time. Prints both.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double time_calls(long count, long number, long argument)
{
	struct timespec start, end;

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (long i = 0; i < count; i++)
		syscall(number, argument);
	clock_gettime(CLOCK_MONOTONIC, &end);
	return ((end.tv_sec - start.tv_sec) * 1e9 + (end.tv_nsec - start.tv_nsec)) / count;
}

int main(int argc, char **argv)
{
	long count = argc == 2 ? atol(argv[1]) : 0;

	if (count <= 0)
		return 2;
	printf("%.1f %.1f\n", time_calls(count, SYS_getpid, 0), time_calls(count, SYS_personality, 0xffffffff));
	return 0;
}
