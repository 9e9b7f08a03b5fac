/*
 * preset.h
 *		What each value of the option "api" means.
 */
#ifndef GENJOB_PRESET_H
#define GENJOB_PRESET_H

/* How a request travels. */
typedef enum BodyKind
{
	BODY_JSON,
	BODY_MULTIPART /* multipart/form-data: members are fields, inputs are files */
} BodyKind;

/*
 * A wire protocol.  NULL means "has none".  Lists are separated by spaces and tried in order; places
 * are JSON Pointers in which "*" is every element.
 */
typedef struct Preset
{
	const char *api;

	/* Submitting */
	const char *auth;  /* none | bearer | basic | header:NAME */
	bool needs_secret; /* a user mapping is required */
	const char *path;  /* below url */
	BodyKind body;
	const char *model_at; /* where the option "model" goes */

	/* Submitting a job that has inputs */
	const char *inputs_path;
	BodyKind inputs_body;
	const char *inputs_at; /* takes the inputs that the request does not name itself: a pointer
								 * to an array (JSON) or a file's field name (multipart) */

	/* Judging the answer */
	bool any_answer;     /* what is not JSON is an output, rather than an error */
	const char *outputs; /* where base64 stands */
	const char *errors;  /* where the server's own words stand */
	const char *usage;
} Preset;

extern const Preset *preset_find(const char *api);
extern char *preset_list(void);

#endif /* GENJOB_PRESET_H */
