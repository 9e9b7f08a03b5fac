-- An object store is a server, too. That of the demo is a Swift on this machine; S3, MinIO and others differ in their URL.
CREATE SERVER pictures FOREIGN DATA WRAPPER genjob
  OPTIONS (api 's3', url :'store', bucket 'pictures', key '{server}/{job}-{ordinal}.{ext}');
CREATE USER MAPPING FOR PUBLIC SERVER pictures OPTIONS (access_key_id 'test:tester', secret_access_key 'testing');

-- What comes of the jobs of these servers goes there. A job has succeeded when the store has confirmed it.
ALTER SERVER painter OPTIONS (ADD store 'pictures');
ALTER SERVER upscaler OPTIONS (ADD store 'pictures');
