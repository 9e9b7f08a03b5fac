/*
 * preset.c
 *		Finds the preset that the option "api" names.  The rows are in
 *		modelpresets.c and servicepresets.c.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "server/preset.h"

/*
 * Returns preset number i, in the order of the documents; NULL behind the last.
 */
static const Preset *
preset_number(int i)
{
	if (i < preset_n_models)
		return &preset_models[i];
	i -= preset_n_models;
	return i < preset_n_services ? &preset_services[i] : NULL;
}

/*
 * Returns the preset of that name, or NULL.
 */
const Preset *
preset_find(const char *api)
{
	const Preset *preset;
	int i;

	for (i = 0; (preset = preset_number(i)) != NULL; i++)
	{
		if (strcmp(preset->api, api) == 0)
			return preset;
	}
	return NULL;
}

/*
 * Returns the names of all presets for a hint, palloc'd.
 */
char *
preset_list(void)
{
	StringInfoData list;
	const Preset *preset;
	int i;

	initStringInfo(&list);
	for (i = 0; (preset = preset_number(i)) != NULL; i++)
		appendStringInfo(&list, "%s%s", i > 0 ? ", " : "", preset->api);
	return list.data;
}
