/* Makes every flush of a file to its disk take a millisecond longer: loaded before postgres with LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <time.h>

static void wait_a_millisecond(void) {
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, 0) == EINTR) {
	}
}

int fdatasync(int fd) {
	int (*flush)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
	wait_a_millisecond();
	return flush(fd);
}

int fsync(int fd) {
	int (*flush)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
	wait_a_millisecond();
	return flush(fd);
}
