/*
 * fuzz.h
 *		What a harness is, and how it reads its input.
 *
 * An input is text as far as that goes, so that a corpus can be read and written by hand: words on the
 * first line, then what the harness is about.  A choice that no name fits is made by the word's hash, so
 * a mutation of it leads to another.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "postgres.h"

#include "http/http.h"
#include "server/options.h"

typedef struct FuzzInput
{
	const char *data; /* what has not been read yet; followed by no NUL byte */
	size_t len;
} FuzzInput;

typedef struct FuzzHarness
{
	const char *name;
	void (*run)(FuzzInput *input); /* in a memory context of its own; may raise errors */
} FuzzHarness;

/* Begins a harness: the function that takes one input. */
#define FUZZ_HARNESS(name) \
	static void run_##name(FuzzInput *input); \
	const FuzzHarness fuzz_##name = {#name, run_##name}; \
	static void run_##name(FuzzInput *input)

/* driver.c */
extern void fuzz_run(const FuzzHarness *harness, const char *data, size_t len);

/* input.c: all of it palloc'd, of just its size; words and lines are UTF-8, as in a table */
extern char *input_take_line(FuzzInput *input);
extern char *input_take_word(char **line);
extern char *input_take_block(FuzzInput *input, size_t *len);
extern char *input_take_text(FuzzInput *input);
extern char *input_take_utf8(FuzzInput *input);
extern char *input_take_bytes(FuzzInput *input, size_t *len);
extern int input_choose(const char *word, const char *const *names, int n);
extern ServerOptions *input_read_options(const char *api, char **line);
extern HttpReply *input_take_reply(FuzzInput *input);

/* What a user's text must be, whatever a server sends; else the process ends. */
#define FUZZ_SECRET "sk-fuzz-secret"

extern void must_be(bool holds, const char *what, const char *text);
extern void must_be_utf8(const char *text, const char *what);
extern void must_be_text(const char *text, const char *what);
extern void must_be_jsonb(const char *text, const char *what);
extern void must_be_bytes(const char *data, size_t len);

#endif /* FUZZ_H */
