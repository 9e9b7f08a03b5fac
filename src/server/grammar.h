/*
 * grammar.h
 *		Checks and reads the options that describe a protocol.
 */
#ifndef GENJOB_GRAMMAR_H
#define GENJOB_GRAMMAR_H

/* Each returns NULL, or a sentence that says what is expected. */
extern const char *grammar_check_object(const char *text);
extern const char *grammar_check_headers(const char *text);
extern const char *grammar_check_auth(const char *value);
extern const char *grammar_check_word(const char *value);
extern const char *grammar_check_bucket(const char *value);
extern const char *grammar_check_path(const char *value);
extern const char *grammar_check_place(const char *value);
extern const char *grammar_check_remote_id(const char *value);
extern const char *grammar_check_state(const char *value);
extern const char *grammar_check_progress(const char *value);
extern const char *grammar_check_header_value(const char *value);
extern const char *grammar_check_places(const char *value);
extern const char *grammar_check_reasons(const char *value);
extern const char *grammar_check_requirement(const char *value);
extern const char *grammar_check_address(const char *value);
extern const char *grammar_check_lookup(const char *value);
extern const char *grammar_check_states(const char *value);
extern const char *grammar_check_encoding(const char *value);

/* An address, taken apart; the strings are palloc'd. */
typedef struct Address
{
	char *method;
	char *path;  /* or NULL */
	char *place; /* where an answer has the URL; or NULL */
	char *body;  /* JSON, or NULL */
} Address;

extern char *grammar_fit_addresses(const char *text, bool id_is_ours);
extern const char *grammar_read_address(const char *text, Address *address);

extern char *grammar_split_address(const char *text, const char **places);
extern const char *grammar_read_lookup(const char *text, Address *address, char **places);

/* What a value of a prediction's state means. */
typedef enum RemoteState
{
	REMOTE_RUNNING,
	REMOTE_OK,
	REMOTE_FAILED,
	REMOTE_GONE,
	REMOTE_PARTLY /* ended, maybe incomplete: succeeds only with what requires_output asks for */
} RemoteState;

extern RemoteState grammar_state_of(const char *states, const char *value);

extern const char *grammar_next_word(const char **list, int *len);
extern char *grammar_fill(const char *pattern, const char *name, const char *value);
extern char *grammar_percent_encode(const char *text, const char *also_plain);

#endif /* GENJOB_GRAMMAR_H */
