/* measure: CPU time, pinning, medians and the one line that each answer is printed as */
#ifndef CPOOL_BENCH_MEASURE_H
#define CPOOL_BENCH_MEASURE_H

#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum {
  CLIENT_CPU = 0, /* all threads of the client */
  SERVER_CPU = 1, /* what it talks to, so that neither takes time from the other */
  IN_FLIGHT = 64
};

__attribute__((noreturn, format(printf, 1, 2))) static inline void give_up(const char *format, ...)
{
  va_list args;
  va_start(args, format);
  vfprintf(stderr, format, args);
  va_end(args);
  fputc('\n', stderr);
  exit(2);
}

static inline double clock_as_us(clockid_t clock)
{
  struct timespec now;
  clock_gettime(clock, &now);
  return (double) now.tv_sec * 1e6 + (double) now.tv_nsec / 1e3;
}

/* User and system time of the process, all threads. */
static inline double process_cpu_us(void)
{
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (double) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
         (double) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* The calling thread and those that it starts. A machine with one CPU measures without it. */
static inline void pin_to(unsigned cpu)
{
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  sched_setaffinity(0, sizeof set, &set);
}

static inline int ascending(const void *a, const void *b)
{
  double left = *(const double *) a, right = *(const double *) b;
  return (left > right) - (left < right);
}

/* Sorts them: values[0] is the least, values[count - 1] the most. */
static inline double median(double *values, size_t count)
{
  qsort(values, count, sizeof *values, ascending);
  return values[count / 2];
}

/* "question|measured|reach|ok", the measured column by printf; a missed reach is no failure of the program. */
__attribute__((format(printf, 4, 5))) static inline void report(const char *question, const char *reach, bool ok,
                                                                const char *format, ...)
{
  va_list args;
  va_start(args, format);
  printf("%s|", question);
  vprintf(format, args);
  printf("|%s|%s\n", reach, ok ? "ok" : "missed");
  va_end(args);
  fflush(stdout);
}

/* --quick: few of everything, to see that it runs. */
static inline bool is_quick(int argc, char **argv)
{
  return argc > 1 && strcmp(argv[1], "--quick") == 0;
}

#endif
