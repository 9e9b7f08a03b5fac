/*
 * keytemplate.c
 *		The keys under which outputs are stored: "{server}/{yyyy}/{mm}/{job}-{ordinal}.{ext}".
 *
 * CREATE and ALTER SERVER check the template.  So an output that was paid for
 * never meets a template that we cannot fill.  Each word has a maximum length,
 * so the check knows how long a key can get.
 */
#include "postgres.h"

#include <time.h>

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

#include "server/keytemplate.h"

#define MAX_LOOKS 10000 /* tries to match one key; after these, it is not ours */
#define MAX_NAME 200    /* bytes of a word that a user chose; the rest is cut off */

typedef enum Word
{
	WORD_SERVER,
	WORD_DATABASE,
	WORD_OWNER,
	WORD_TENANT,
	WORD_JOB,
	WORD_ATTEMPT,
	WORD_ORDINAL,
	WORD_SHA256,
	WORD_EXT,
	WORD_YYYY,
	WORD_MM,
	WORD_DD,
	WORD_HH,
	WORDS
} Word;

static const struct
{
	const char *name;
	int most; /* bytes */
} words_table[WORDS] = {
	[WORD_SERVER] = {"server", MAX_NAME},
	[WORD_DATABASE] = {"database", MAX_NAME},
	[WORD_OWNER] = {"owner", MAX_NAME},
	[WORD_TENANT] = {"tenant", MAX_NAME},
	[WORD_JOB] = {"job", 20},
	[WORD_ATTEMPT] = {"attempt", 11},
	[WORD_ORDINAL] = {"ordinal", 11},
	[WORD_SHA256] = {"sha256", 64},
	[WORD_EXT] = {"ext", 10},
	[WORD_YYYY] = {"yyyy", 6},
	[WORD_MM] = {"mm", 2},
	[WORD_DD] = {"dd", 2},
	[WORD_HH] = {"hh", 2},
};

/*
 * Returns the word that begins at text, and its length with both braces; WORDS
 * if it is not a word.
 */
static Word
read_word(const char *text, int *len)
{
	const char *close = strchr(text, '}');
	Word word;

	*len = close ? close + 1 - text : (int) strlen(text);
	for (word = 0; close != NULL && word < WORDS; word++)
	{
		size_t name_len = strlen(words_table[word].name);

		if (name_len == close - text - 1 && strncmp(text + 1, words_table[word].name, name_len) == 0)
			return word;
	}
	return WORDS;
}

static const char *
list_words(void)
{
	StringInfoData list;
	Word word;

	initStringInfo(&list);
	for (word = 0; word < WORDS; word++)
		appendStringInfo(&list, "%s{%s}", word > 0 ? ", " : "", words_table[word].name);
	return list.data;
}

/* ---------- the check ---------- */

/*
 * True if a word has as many bytes as we know beforehand.
 */
static bool
has_fixed_length(Word word)
{
	return word == WORD_SHA256 || word == WORD_YYYY || word == WORD_MM || word == WORD_DD ||
		   word == WORD_HH;
}

/*
 * True if the letter beside a word tells where the word ends.  letter is '\0'
 * or '/' at an end of the segment, and a brace if another word follows.  The
 * names that a user chose may have any letter but a slash.
 */
static bool
ends_word(Word word, char letter)
{
	if (letter == '\0' || letter == '/')
		return true;
	if (has_fixed_length(word))
		return true;
	if (word == WORD_EXT)
		return letter != '{' && letter != '}' && !isalnum((unsigned char) letter);
	return (word == WORD_JOB || word == WORD_ATTEMPT || word == WORD_ORDINAL) && letter != '{' &&
		   letter != '}' && !isdigit((unsigned char) letter);
}

/*
 * Notes the words of a segment, of len bytes, whose values can be told from a
 * key: reads it from its begin up to the first word that may end anywhere, and
 * from its end down to the last such word.
 */
static void
note_told_words(const char *segment, size_t len, bool *is_told)
{
	const char *end = segment + len;
	const char *p = segment;

	while (p < end)
	{
		int word_len = 1;
		Word word = *p == '{' ? read_word(p, &word_len) : WORDS;

		if (word < WORDS && !ends_word(word, p + word_len < end ? p[word_len] : '\0'))
			break;
		if (word < WORDS)
			is_told[word] = true;
		p += word_len;
	}
	for (p = end; p > segment;)
	{
		Word word = WORDS;
		int word_len;

		p--;
		if (*p != '}')
			continue;
		while (*p != '{')
			p--;
		word = read_word(p, &word_len);
		if (!ends_word(word, p > segment ? p[-1] : '\0'))
			break;
		is_told[word] = true;
	}
}

/*
 * Returns what is wrong with a template whose words are all right, as
 * keytemplate_check() does.
 */
static const char *
check_segments(const char *value)
{
	bool is_told[WORDS] = {false};
	const char *segment = value;

	while (segment != NULL)
	{
		size_t len = strcspn(segment, "/");

		if (len > 0 && len <= 2 && strspn(segment, ".") == len)
			return "It must have no folder \".\" or \"..\": clients take these out of a link, so no link would lead to its keys.";
		note_told_words(segment, len, is_told);
		segment = segment[len] == '/' ? segment + len + 1 : NULL;
	}
	if (!(is_told[WORD_JOB] && is_told[WORD_ORDINAL]) && !is_told[WORD_SHA256])
		return "It must keep {job} and {ordinal} apart from each other and from other words, as in \"{job}-{ordinal}\": otherwise output 11 of job 1 and output 1 of job 11 could have one key.";
	return NULL;
}

/*
 * Returns NULL if value is a template that makes a different key for each output of each job; else a sentence that says
 * what is wrong.
 */
const char *
keytemplate_check(const char *value)
{
	bool has[WORDS] = {false};
	int most = 0;
	const char *p = value;

	while (*p != '\0')
	{
		int len = 1;
		Word word = *p == '{' ? read_word(p, &len) : WORDS;

		if ((*p == '{' && word == WORDS) || *p == '}')
			return psprintf("There is no valid word at \"%.*s\". Words are: %s.",
							pg_encoding_mbcliplen(PG_UTF8, p, (int) strlen(p), Min(len, 40)), p,
							list_words());
		if ((unsigned char) *p < ' ' || *p == 0x7f)
			return "It must have no control characters.";
		if (word < WORDS)
			has[word] = true;
		most += word < WORDS ? words_table[word].most : 1;
		p += len;
	}
	if (*value == '/')
		return "A key must not begin with a slash. Write it as in \"{server}/{yyyy}/{mm}/{job}-{ordinal}.{ext}\".";
	if (strncmp(value, "s3://", 5) == 0)
		return "A key does not begin with \"s3://\": the option bucket names the bucket.";
	if (!(has[WORD_JOB] && has[WORD_ORDINAL]) && !has[WORD_SHA256])
		return "It must have {job} and {ordinal}, or {sha256}: otherwise one output would overwrite another.";
	if (most > KEY_MAX)
		return psprintf("Its keys could have %d bytes, and stores take %d at most: each of {server}, {database}, {owner} and {tenant} may take %d of them.",
						most, KEY_MAX, MAX_NAME);
	return check_segments(value);
}

/*
 * Appends a name that cannot leave its part of the key: no slash, no control character, and no segment such as "..".
 */
static void
append_name(StringInfo key, const char *name)
{
	int len = pg_encoding_mbcliplen(PG_UTF8, name, (int) strlen(name), MAX_NAME);
	int i;

	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || len == 0)
	{
		appendStringInfoChar(key, '_');
		return;
	}
	for (i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) name[i];

		appendStringInfoChar(key, c < ' ' || c == 0x7f || c == '/' || c == '\\' ? '_' : (char) c);
	}
}

static void
append_word(StringInfo key, Word word, const KeyWords *words)
{
	time_t started = (time_t) words->started_unix;
	struct tm parts;

	gmtime_r(&started, &parts);
	switch (word)
	{
		case WORD_SERVER:
			append_name(key, words->server);
			break;
		case WORD_DATABASE:
			append_name(key, words->database);
			break;
		case WORD_OWNER:
			append_name(key, words->owner);
			break;
		case WORD_TENANT:
			append_name(key, words->tenant);
			break;
		case WORD_JOB:
			appendStringInfo(key, INT64_FORMAT, words->job);
			break;
		case WORD_ATTEMPT:
			appendStringInfo(key, "%d", words->attempt);
			break;
		case WORD_ORDINAL:
			appendStringInfo(key, "%d", words->ordinal);
			break;
		case WORD_SHA256:
			appendStringInfoString(key, words->sha256);
			break;
		case WORD_EXT:
			appendStringInfoString(key, words->extension);
			break;
		case WORD_YYYY:
			appendStringInfo(key, "%04d", parts.tm_year + 1900);
			break;
		case WORD_MM:
			appendStringInfo(key, "%02d", parts.tm_mon + 1);
			break;
		case WORD_DD:
			appendStringInfo(key, "%02d", parts.tm_mday);
			break;
		case WORD_HH:
			appendStringInfo(key, "%02d", parts.tm_hour);
			break;
		case WORDS:
			break;
	}
}

/*
 * Returns the key of an output, palloc'd.  keytemplate_check() must have
 * accepted the pattern.
 */
char *
keytemplate_fill(const char *pattern, const KeyWords *words)
{
	StringInfoData key;

	initStringInfo(&key);
	while (*pattern != '\0')
	{
		int len = 1;

		if (*pattern == '{')
			append_word(&key, read_word(pattern, &len), words);
		else
			appendStringInfoChar(&key, *pattern);
		pattern += len;
	}
	return key.data;
}

/* ---------- keys that may be ours ---------- */

/*
 * True if a word has the same value for all outputs that are meant: those of a
 * server, or, with words->of_job, those of a job.
 */
static bool
is_fixed(Word word, const KeyWords *words)
{
	switch (word)
	{
		case WORD_SERVER:
		case WORD_DATABASE:
			return true;
		case WORD_OWNER:
		case WORD_TENANT:
		case WORD_JOB:
			return words->of_job;
		default:
			return false;
	}
}

/*
 * Returns the text with which all keys of a server's outputs begin, or, with
 * words->of_job, those of a job's outputs; palloc'd.  Needs the words server
 * and database, and for a job also owner, tenant and job.
 */
char *
keytemplate_prefix(const char *pattern, const KeyWords *words)
{
	StringInfoData prefix;

	initStringInfo(&prefix);
	while (*pattern != '\0')
	{
		int len = 1;
		Word word = *pattern == '{' ? read_word(pattern, &len) : WORDS;

		if (*pattern == '{' && !is_fixed(word, words))
			break;
		if (*pattern == '{')
			append_word(&prefix, word, words);
		else
			appendStringInfoChar(&prefix, *pattern);
		pattern += len;
	}
	return prefix.data;
}

/*
 * Returns how many bytes at the beginning of key may be the value of word,
 * which is not fixed.
 */
static int
span_of(Word word, const char *key)
{
	static const char digits[] = "0123456789";

	switch (word)
	{
		case WORD_SHA256:
			return (int) strspn(key, "0123456789abcdef");
		case WORD_EXT:
			return (int) strspn(key, "0123456789abcdefghijklmnopqrstuvwxyz");
		case WORD_OWNER:
		case WORD_TENANT:
			return (int) strcspn(key, "/");
		case WORD_YYYY:
			return Min((int) strspn(key, digits), 4);
		default:
			return (int) strspn(key, digits);
	}
}

/*
 * Returns the text of a template up to the next word that is not fixed,
 * palloc'd; *pattern moves to that word.
 */
static char *
next_text(const char **pattern, const KeyWords *words)
{
	char *text = keytemplate_prefix(*pattern, words);

	while (**pattern != '\0')
	{
		int len = 1;

		if (**pattern == '{' && !is_fixed(read_word(*pattern, &len), words))
			break;
		*pattern += len;
	}
	return text;
}

/*
 * True if pattern (the rest of a template) may have made key (the rest of a
 * key).  pattern is empty, or begins with a word that is not fixed.  *looks is
 * the number of tries left.
 */
static bool
may_be_rest(const char *pattern, const char *key, const KeyWords *words, int *looks)
{
	int len;
	Word word;
	const char *text;
	int span;

	if (*pattern == '\0')
		return *key == '\0';
	word = read_word(pattern, &len);
	span = Min(span_of(word, key), words_table[word].most);
	pattern += len;
	text = next_text(&pattern, words);
	for (; span > 0 && --*looks > 0; span--)
	{
		if (strncmp(key + span, text, strlen(text)) == 0 &&
			may_be_rest(pattern, key + span + strlen(text), words, looks))
			return true;
	}
	return false;
}

/*
 * True if the template may have made this key for an output of the server, or,
 * with words->of_job, of the job.  Needs the same words as
 * keytemplate_prefix().
 */
bool
keytemplate_may_be(const char *pattern, const char *key, const KeyWords *words)
{
	const char *text = next_text(&pattern, words);
	int looks = MAX_LOOKS;

	return strncmp(key, text, strlen(text)) == 0 &&
		   may_be_rest(pattern, key + strlen(text), words, &looks);
}

/*
 * True if a job's keys are its own: no output of another job has the same one.
 */
bool
keytemplate_names_job(const char *pattern)
{
	return strstr(pattern, "{job}") != NULL;
}

/*
 * True if a key needs the digest of the whole output, so that the output must
 * be complete first.
 */
bool
keytemplate_needs_digest(const char *pattern)
{
	return strstr(pattern, "{sha256}") != NULL;
}
