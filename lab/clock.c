/* Preloaded into a server, moves its wall clock by the seconds in the file that CHAOS_CLOCK names; read ten times a second. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static int (*real_clock_gettime)(clockid_t, struct timespec *);

static long ahead(void)
{
    static long long looked_ms;
    static long seconds;
    struct timespec now;
    long long now_ms;
    FILE *file;

    real_clock_gettime(CLOCK_MONOTONIC, &now);
    now_ms = now.tv_sec * 1000LL + now.tv_nsec / 1000000;
    if (now_ms - looked_ms >= 100) {
        looked_ms = now_ms;
        file = fopen(getenv("CHAOS_CLOCK"), "r");
        if (file) {
            if (fscanf(file, "%ld", &seconds) != 1) seconds = 0;
            fclose(file);
        }
    }
    return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    int answer;

    if (!real_clock_gettime) real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    answer = real_clock_gettime(clock, time);
    if (answer == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) time->tv_sec += ahead();
    return answer;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone)
{
    struct timespec now;

    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) return -1;
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (result) *result = now.tv_sec;
    return now.tv_sec;
}
