# Every block of docs/clients.md, run as it stands, by a role that may do no more than the document grants.
# make check-clients runs this: it needs packages that a test of genjob itself does not.

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use File::Path qw(make_path);
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use Document;
use GenJobTest;
use StandIn;

plan skip_all => 'make check-clients runs it' unless $ENV{CLIENTS};

my $python = '/usr/bin/python3';    # the one that Debian's packages are for
my $java = 'java -cp /usr/share/java/postgresql.jar';
my $go = 'go run';
my $tsx = 'tsx --tsconfig tsconfig.json';

# Each section: what must be there, and what becomes of its blocks in their order, a file or (sh) a command, and the
# command that runs the file, if it is a program. What a program prints must have these words.
my @clients = (
	{ title => 'psycopg', python => 'psycopg', blocks => [ order('order.py', $python), told('told.py', $python) ] },
	{ title => 'asyncpg', python => 'asyncpg', blocks => [ order('order.py', $python), told('told.py', $python) ] },
	{ title => 'SQLAlchemy', python => 'sqlalchemy, psycopg2', blocks => [ order('order.py', $python) ] },
	{   title => 'Django', python => 'django, psycopg2', files => django(),
		blocks => [ { run => 'sh' }, order('order.py', "$python manage.py shell <") ] },
	{ title => 'pg', node => 'pg', blocks => [ order('order.mjs', 'node'), told('told.mjs', 'node') ] },
	{ title => 'postgres.js', node => 'postgres', blocks => [ order('order.mjs', 'node'), told('told.mjs', 'node') ] },
	{   title => 'Prisma', node => '@prisma/client', files => prisma(),
		blocks => [ { file => 'schema.prisma', run => 'prisma generate' }, order('order.ts', $tsx, 'queued') ] },
	{   title => 'Drizzle', node => 'drizzle-kit',
		blocks => [ { file => 'drizzle.config.js' }, { run => 'sh' }, order('order.ts', $tsx, 'queued') ] },
	{ title => 'Knex', node => 'knex', blocks => [ order('order.mjs', 'node', 'queued') ] },
	{ title => 'TypeORM', node => 'typeorm', blocks => [ { run => 'sh' }, order('order.ts', $tsx, 'queued') ] },
	{   title => 'ActiveRecord', try => q{ruby -e 'require "active_record"; require "pg"'},
		blocks => [ order('order.rb', 'ruby', 'queued|running|succeeded'), told('told.rb', 'ruby') ] },
	{   title => 'pgx', try => 'go version && test -d /usr/share/gocode/src/github.com/jackc/pgx',
		blocks => [ order('order.go', $go), told('told.go', $go) ] },
	{   title => 'JDBC', try => 'java -version && test -e /usr/share/java/postgresql.jar',
		blocks => [ order('Order.java', $java), told('Listen.java', $java) ] },
	{   title => 'PDO', try => q{php -r 'exit(extension_loaded("pdo_pgsql") ? 0 : 1);'},
		blocks => [ order('order.php', 'php'), told('told.php', 'php') ] });

# A program that orders a picture of cat.png and writes what came.
sub order
{
	my ($file, $run, $prints) = @_;
	return { file => $file, run => $run, prints => qr/succeeded/, pictures => 1, also => $prints };
}

# A program that is notified.
sub told
{
	my ($file, $run) = @_;
	return { file => $file, run => $run, prints => qr/succeeded/ };
}

sub django
{
	my $manage = <<'MANAGE';
import os
import sys

os.environ['DJANGO_SETTINGS_MODULE'] = 'settings'
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
MANAGE
	my $settings = <<'SETTINGS';
import os

SECRET_KEY = 'test'
USE_TZ = True
INSTALLED_APPS = ['pictures']
DATABASES = {'default': {'ENGINE': 'django.db.backends.postgresql', 'NAME': os.environ['PGDATABASE'], 'USER': 'app',
                         'HOST': os.environ['PGHOST'], 'PORT': os.environ['PGPORT'],
                         'OPTIONS': {'options': '-c search_path=public,gen'}}}
SETTINGS
	return { 'manage.py' => $manage, 'settings.py' => $settings, 'pictures/__init__.py' => '' };
}

sub prisma
{
	my $config = <<'CONFIG';
import { defineConfig } from 'prisma/config';
export default defineConfig({ schema: 'schema.prisma', datasource: { url: process.env.DATABASE_URL } });
CONFIG
	return { 'prisma.config.ts' => $config };
}

sub write_file
{
	my ($path, $bytes) = @_;
	make_path($1) if $path =~ m{^(.*)/};
	open my $file, '>:raw', $path or die "could not write $path: $!";
	print $file $bytes;
	close $file or die "could not write $path: $!";
	return;
}

my %blocks = Document::blocks('clients.md');
my $standin = StandIn->new;
# drivers of Java and Node.js speak TCP only, or take a socket's path in a URL for something else
my $node = new_node(name => 'clients', conf => "listen_addresses = '127.0.0.1'\n", extension => 0);
my $setup = join '', @{ $blocks{'The database'} };
my $url = $standin->url;
$setup =~ s{https://api\.openai\.com}{$url};
query($setup);
wait_dispatcher($node);

my $picture = "\x89PNG\r\n\x1a\n" . join('', map { chr($_ * 37 % 256) } 1 .. 5000);
my $top = "$ENV{TESTDATADIR}/clients";

# What a program of the document finds in its environment.
sub client_environment
{
	my ($host, $port) = ('127.0.0.1', $node->port);
	my $path = defined $ENV{CLIENTS_NODE} ? "$ENV{CLIENTS_NODE}/node_modules/.bin:$ENV{PATH}" : $ENV{PATH};
	return (DATABASE_URL => "postgresql://app\@$host:$port/postgres",
		JDBC_URL => "jdbc:postgresql://$host:$port/postgres?user=app", PGHOST => $host, PGPORT => $port,
		PGDATABASE => 'postgres', PGUSER => 'app', PGPASSWORD => 'none', PATH => $path, HOME => $top,
		GOCACHE => "$top/go", GOPATH => '/usr/share/gocode', GO111MODULE => 'off',
		PRISMA_SCHEMA_ENGINE_BINARY => '/bin/true', npm_config_offline => 'true');
}

# Runs a shell command in a folder; its status, and all that it printed.
sub run_in
{
	my ($folder, $command) = @_;
	local %ENV = (%ENV, client_environment());
	my $out = '';
	my $timer = IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default);
	my $status = eval {
		IPC::Run::run([ 'sh', '-c', "cd \"\$0\" && $command", $folder ], '<', \undef, '>&', \$out, $timer);
		$? >> 8 || $? & 127;
	};
	return ($status // "timed out: $@", $out);
}

# Why a client cannot be run here; nothing where it can.
sub missing
{
	my ($client) = @_;
	my $try = $client->{try} // ($client->{python} ? "$python -c 'import $client->{python}'" : undef);
	if (defined $client->{node})
	{
		return 'npm has not brought its packages'
		  unless defined $ENV{CLIENTS_NODE} && -d "$ENV{CLIENTS_NODE}/node_modules/$client->{node}";
		return;
	}
	my ($status) = run_in('.', $try);
	return $status eq '0' ? () : "not installed (tools/install-packages clients): $try";
}

# Makes the folder of a client, with what its programs need.
sub make_folder
{
	my ($client) = @_;
	my $folder = "$top/$client->{title}";
	write_file("$folder/cat.png", $picture);
	write_file("$folder/package.json", '{"type": "module"}');
	write_file("$folder/tsconfig.json", '{"compilerOptions": {"target": "es2022", "module": "preserve",'
		  . ' "experimentalDecorators": true, "useDefineForClassFields": false}}');
	symlink "$ENV{CLIENTS_NODE}/node_modules", "$folder/node_modules" if $client->{node};
	write_file("$folder/$_", $client->{files}{$_}) foreach sort keys %{ $client->{files} // {} };
	return $folder;
}

# Passes if a program of the document, or its commands, do what its block promises.
sub run_block
{
	my ($folder, $block) = @_;
	my $last = query('SELECT coalesce(max(id), 0) FROM gen.gen_jobs');
	my $command = $block->{run} eq 'sh' ? 'sh -e commands.sh'
	  : $block->{run} =~ /generate$/ ? $block->{run} : "$block->{run} $block->{file}";
	my $began = time;
	my ($status, $out) = run_in($folder, $command);
	is($status, 0, sprintf '%s (%.1f s)', $command, time - $began) or diag($out);
	return unless $block->{prints};
	like($out, $block->{prints}, '... prints that it succeeded');
	like($out, qr/^.*\b($block->{also})\s*\z/m, '... and the state of another') if $block->{also};
	return unless $block->{pictures};
	my $job = query("SELECT coalesce(min(id), 0) FROM gen.gen_jobs WHERE id > $last");
	is(query("SELECT encode(sha256(inputs[1]), 'hex') FROM gen.gen_jobs WHERE id = $job"), sha256_hex($picture),
		'... sends the picture');
	is(query("SELECT encode(sha256, 'hex') FROM gen.gen_outputs WHERE job_id = $job AND ordinal = 1"),
		-e "$folder/hat1.png" ? sha256_hex(slurp_file("$folder/hat1.png")) : 'no file', '... and writes what came');
	return;
}

subtest 'every section with a block is known here, and the database is that of the document' => sub {
	ok(wait_dispatcher($node), 'the database of the document');
	is(join(', ', sort keys %blocks), join(', ', sort 'The database', map { $_->{title} } @clients), 'its title');
	is(scalar @{ $blocks{ $_->{title} } // [] }, scalar @{ $_->{blocks} }, "$_->{title}: its blocks") foreach @clients;
};

foreach my $client (@clients)
{
	subtest "$client->{title}: each block of the document does what it says" => sub {
		my $missing = missing($client);
		plan skip_all => $missing if defined $missing;
		my @sources = @{ $blocks{ $client->{title} } // [] };
		my $folder = make_folder($client);
		foreach my $block (@{ $client->{blocks} })
		{
			write_file("$folder/" . ($block->{file} // 'commands.sh'), shift @sources);
			run_block($folder, $block) if $block->{run};
		}
	};
}

$node->stop;
$standin->stop;
done_testing();
