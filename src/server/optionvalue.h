/*
 * optionvalue.h
 *		The kinds of options, and the row that describes one option.
 */
#ifndef GENJOB_OPTIONVALUE_H
#define GENJOB_OPTIONVALUE_H

typedef enum OptionKind
{
	/* Words */
	OPTION_TEXT,
	OPTION_CHOICE, /* one of choices */
	OPTION_API,
	OPTION_BOOL,
	OPTION_ON_UNKNOWN,
	OPTION_STATUS_SET, /* HTTP statuses */
	OPTION_SERVER,     /* name of a server */
	OPTION_URLS,       /* base addresses, separated by commas */
	OPTION_FILE,       /* absolute path */
	OPTION_OBJECT,     /* JSON object */
	OPTION_HEADERS,    /* JSON object of strings */
	OPTION_CHANNEL,    /* name of a channel of LISTEN */
	OPTION_SECRET,

	/* Texts with a grammar */
	OPTION_WORD, /* of letters, digits and dashes */
	OPTION_BUCKET,
	OPTION_KEY, /* a template of keys */
	OPTION_PATH,
	OPTION_AUTH,
	OPTION_PLACES, /* JSON Pointers */
	OPTION_PLACE,  /* a JSON Pointer */
	OPTION_REMOTE_ID,
	OPTION_STATE,
	OPTION_PROGRESS,
	OPTION_HEADER_VALUE,
	OPTION_ADDRESS, /* "METHOD path" or "METHOD @place" */
	OPTION_LOOKUP,
	OPTION_STATES,
	OPTION_ENCODING,
	OPTION_REQUIREMENT,
	OPTION_REASONS,
	OPTION_STREAM_CONDITIONS,
	OPTION_STREAM_PARTS,
	OPTION_STREAM_PLACES,

	/* Numbers: how the user writes them; how they are stored */
	OPTION_COUNT,
	OPTION_AT_A_TIME, /* a count, or "auto" */
	OPTION_RATE,      /* calls a unit of time; calls a second */
	OPTION_DURATION,  /* with a unit; ms */
	OPTION_AGE,       /* with a unit, also days and weeks; ms */
	OPTION_SIZE,      /* with a unit; bytes */

	OPTION_KINDS
} OptionKind;

typedef struct Option
{
	const char *name;
	Oid catalog; /* of the object that has it */
	OptionKind kind;
	size_t offset;             /* of its value in ServerOptions or MappingOptions */
	const char *default_value; /* NULL: the preset's, or none */
	int64 min, max;            /* of a number, in its unit of storage */
	const char *choices;       /* valid words, separated by ", "; a value may add ":" and more */
	size_t kind_offset;        /* of the enum in ServerOptions that stores the choice; 0: none */
} Option;

#define MS_OF_DAY INT64CONST(86400000)

extern void optionvalue_parse(const Option *option, const char *value, void *options);
extern void optionvalue_read_kind(const Option *option, void *options);

#endif /* GENJOB_OPTIONVALUE_H */
