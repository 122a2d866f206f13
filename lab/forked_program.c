/* Preloaded into a program, has it load its libraries once and fork for each run that it is asked for.

   A line on standard input asks for a run: the folder, the file for its standard output, and the arguments, with a unit separator
   between them. A line on standard output answers with the status of `waitpid`. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef int (*entry)(int, char **, char **);
typedef int (*starter)(entry, int, char **, void (*)(void), void (*)(void), void (*)(void), void *);

static entry program;

static int run(char *line, char **environment)
{
    char *words[64], *folder = strsep(&line, "\x1f"), *output = strsep(&line, "\x1f");
    int count = 0, in = open("/dev/null", O_RDONLY);
    int out = open(output, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    while (line && count < 63) words[count++] = strsep(&line, "\x1f");
    words[count] = NULL;
    if (line || in < 0 || out < 0 || chdir(folder) || dup2(in, 0) < 0 || dup2(out, 1) < 0) return 127;
    return program(count, words, environment);
}

static int serve(int count, char **words, char **environment)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    int status;
    pid_t child;

    (void)count, (void)words;
    while ((length = getline(&line, &room, stdin)) > 0) {
        line[length - 1] = '\0';
        child = fork();
        if (child == 0) exit(run(line, environment));
        if (child < 0 || waitpid(child, &status, 0) < 0) return 1;
        printf("%d\n", status);
        fflush(stdout);
    }
    return 0;
}

int __libc_start_main(entry main, int count, char **words, void (*begin)(void), void (*end)(void), void (*end_linker)(void),
                      void *stack)
{
    starter start = (starter)dlsym(RTLD_NEXT, "__libc_start_main");

    program = main;
    return start(serve, count, words, begin, end, end_linker, stack);
}
