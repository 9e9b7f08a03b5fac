/*
 * preset.c
 *		What each value of the option "api" means: a row of data each.
 *
 * A new wire protocol is a new row here (and its regression test, and its line in docs/servers.md);
 * request.c and reply.c read rows and know no protocol by name.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "protocol/preset.h"

static const Preset presets[] = {
	/*
	 * OpenAI and all that speak its image API (https://platform.openai.com/docs/api-reference/images).
	 * Edits take one file as "image" and several as "image[]".
	 */
	{
		.api = "openai-images",
		.auth = "bearer",
		.needs_secret = true,
		.path = "/v1/images/generations",
		.body = BODY_JSON,
		.model_at = "/model",
		.inputs_path = "/v1/images/edits",
		.inputs_body = BODY_MULTIPART,
		.inputs_at = "image",
		.outputs = "/data/*/b64_json",
		.errors = "/error/message /error",
		.usage = "/usage",
	},

	/*
	 * AUTOMATIC1111's stable-diffusion-webui and Forge (modules/api/api.py), SD.Next,
	 * stable-diffusion.cpp's server.
	 */
	{
		.api = "automatic1111",
		.auth = "basic",
		.path = "/sdapi/v1/txt2img",
		.body = BODY_JSON,
		.model_at = "/override_settings/sd_model_checkpoint",
		.inputs_path = "/sdapi/v1/img2img",
		.inputs_body = BODY_JSON,
		.inputs_at = "/init_images",
		.outputs = "/images/*",
		.errors = "/errors /detail/0/msg /detail /error",
	},

	/*
	 * Any server that takes JSON by POST and answers in one go.
	 */
	{
		.api = "http",
		.auth = "bearer",
		.path = "",
		.body = BODY_JSON,
		.model_at = "/model",
		.inputs_path = "",
		.inputs_body = BODY_JSON,
		.any_answer = true,
		.errors = "/error/message /error /detail/0/msg /detail",
		.usage = "/usage",
	},
};

/*
 * The preset of that name, or NULL.
 */
const Preset *
preset_find(const char *api)
{
	int i;

	for (i = 0; i < lengthof(presets); i++)
	{
		if (strcmp(presets[i].api, api) == 0)
			return &presets[i];
	}
	return NULL;
}

/*
 * The names of all presets for a hint, palloc'd.
 */
char *
preset_list(void)
{
	StringInfoData list;
	int i;

	initStringInfo(&list);
	for (i = 0; i < lengthof(presets); i++)
		appendStringInfo(&list, "%s%s", i > 0 ? ", " : "", presets[i].api);
	return list.data;
}
