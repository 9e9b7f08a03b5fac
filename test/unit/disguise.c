/*
 * disguise.c
 *		In whatever form an answer repeats a secret, it is overwritten; what is about it stays.
 */
#include "unit.h"

#include "protocol/disguise.h"

#define SECRET "sk-Geheim/9+8~7=xyzQ"

static void
mask(char *text, size_t len)
{
	List *secrets = lappend(NIL, SECRET);

	secrets = lappend(secrets, "short%2Fone");
	disguise_overwrite(text, len, secrets,
					   disguise_list(disguise_list(NIL, SECRET), "short%2Fone"));
}

static void
test_forms(void)
{
	static const char *const forms[] = {
		SECRET,
		"SK-GEHEIM/9+8~7=XYZQ",
		"sk-geheim/9+8~7=xyzq",
		"sk-Gehe\n  im/9+8~7=xyzQ",
		"sk-Geheim%2F9%2B8~7%3DxyzQ",
		"sk-Geheim%2f9%2b8~7%3dxyzQ",
		"%73%6b%2d%47%65%68%65%69%6d%2f%39%2b%38%7e%37%3d%78%79%7a%51",
		"sk-Geheim%252F9%252B8~7%253DxyzQ",
		"sk-Geheim\\/9+8~7=xyzQ",
		"sk-Geheim\\u002f9\\u002B8~7=xyzQ",
		"sk-Geheim\\\\u002f9\\\\\\\\u002B8~7=xyzQ",
		"sk-Geheim\\x2f9+8~7=xyzQ",
		"sk-Geheim&#47;9&#x2b;8~7&#x3D;xyzQ",
		"sk-Geheim&sol;9&plus;8~7&equals;xyzQ",
		"c2stR2VoZWltLzkrOH43PXh5elE=",
		"c2stR2Vo\nZWltLzkr\r\nOH43PXh5elE=",
		"c2stR2Vo\\nZWltLzkr\\r\\nOH43PXh5elE=",
		"c2stR2Vo%0AZWltLzkr%0D%0AOH43PXh5elE%3D",
		"eHNrLUdlaGVp bS85Kzh+Nz14eXpR",
		"eHNrLUdlaGVpbS85Kzh-Nz14eXpR",
		"eHlzay1HZWhlaW0vOSs4fjc9eHl6UQ==",
		"eHlzay1HZWhlaW0vOSs4fjc9eHl6UQ%3D%3d",
		"736b2d47656865696d2f392b387e373d78797a51",
		"736B2D47656865696D2F392B387E373D78797A51",
		"73 6b 2d 47 65 68 65 69 6d 2f 39 2b 38 7e 37 3d 78 79 7a 51",
		"short%2Fone",
		"short%252Fone",
	};
	int i;

	for (i = 0; i < lengthof(forms); i++)
	{
		char *text = psprintf("what (%s)\n is this\n", forms[i]);
		size_t len = strlen(text);
		char *p;

		mask(text, len);
		unit_is_int((int64) strlen(text), (int64) len, "length of \"%s\"", forms[i]);
		unit_ok(strncmp(text, "what (", 6) == 0 && strcmp(text + len - 11, ")\n is this\n") == 0,
				"what is about \"%s\"", forms[i]);
		/* characters of base64 that depend on what is beside may be left */
		p = text + strcspn(text, "*");
		unit_ok(strspn(p, "*") + 12 >= strlen(forms[i]), "stars in \"%s\": %s", forms[i], text);
	}
}

static void
test_wide(void)
{
	char text[4 * 64] = {0};
	char *page = psprintf("a %s.", SECRET);
	int i;

	for (i = 0; page[i] != '\0'; i++)
		text[4 * i] = page[i];
	mask(text, 4 * strlen(page));
	for (i = 0; page[i] != '\0'; i++)
		unit_ok(text[4 * i + 1] == '\0' &&
					text[4 * i] == (i < 2 || i == strlen(page) - 1 ? page[i] : '*'),
				"character %d of UTF-32", i);
}

/* Wherever the parts end in which a text is read. */
static void
test_places(void)
{
	int n;

	for (n = 16300; n < 16420; n++)
	{
		char *text = palloc(n + 100);

		memset(text, 'x', n);
		strcpy(text + n, "c2stR2Vo\nZWltLzkr\r\nOH43PXh5elE= sk-Geheim%2F9%2B8~7%3DxyzQ, and\\");
		mask(text, strlen(text));
		if (strstr(text + n, "c2stR2Vo") != NULL || strstr(text + n, "Geheim") != NULL)
			unit_ok(false, "behind %d bytes: %s", n, text + n);
		pfree(text);
	}
	unit_ok(true, "at every place");
}

/* A header may be empty. */
static void
test_empty(void)
{
	int n = 100000;
	char *text = memset(palloc0(n + 1), '%', n);

	disguise_overwrite(text, n, lappend(NIL, ""), disguise_list(NIL, ""));
	unit_is_int((int64) strspn(text, "%"), n, "an empty secret");
}

static void
test_others(void)
{
	static const char *const texts[] = {"",
										"%",
										"%2",
										"&",
										"&#",
										"&#x",
										"\\",
										"\\u",
										"\\u00",
										"\\\\\\\\\\\\\\\\\\\\\\",
										"%25%25%25",
										"sk-Geheim",
										"a text with 100 % of words\nin lines"};
	int i;

	for (i = 0; i < lengthof(texts); i++)
	{
		char *text = pstrdup(texts[i]);

		mask(text, strlen(text));
		unit_is_text(text, texts[i], "what has no secret");
	}
}

void
unit_run(void)
{
	test_forms();
	test_wide();
	test_places();
	test_empty();
	test_others();
}
