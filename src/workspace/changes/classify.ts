import type { BlobStore } from '../blobs.ts';
import type { Change, ChangeSet, Node, Tree } from '../change-set.ts';
import { sortedByBytes } from '../diff.ts';
import { compileList, secretGlobs, segmentsOf, type GlobList } from '../scope/scope.ts';
import { categoryNames, type Category } from './category.ts';
import { secretIn } from './secrets.ts';

export interface ClassifiedChange {
  readonly path: string;
  readonly status: 'added' | 'modified' | 'deleted' | 'type_changed' | 'mode_changed';
  readonly kind: 'file' | 'symlink' | 'directory';
  readonly categories: readonly Category[];
}

/** By name, and by the first bytes of what is there now. A hint for people and rules, never the boundary. */
export async function classifyChanges(
  base: Tree,
  changeSet: ChangeSet,
  blobs: BlobStore,
): Promise<readonly ClassifiedChange[]> {
  const classified: ClassifiedChange[] = [];
  for (const [path, change] of sortedByBytes(changeSet.changes)) {
    const before = base.get(path);
    const categories = new Set<Category>();
    for (const known of byName) if (known.matches(path)) categories.add(known.category);
    if (change.kind === 'file') {
      const head = await blobs.head(change.digest, headBytes);
      for (const category of byContent(path, head, change, before)) categories.add(category);
    }
    const kind = (change.kind === 'deleted' ? before?.kind : change.kind) ?? 'file';
    if (categories.size === 0 && kind !== 'directory') categories.add('source');
    classified.push({
      path,
      status: statusOf(change, before),
      kind,
      categories: categoryNames.filter((c) => categories.has(c)),
    });
  }
  return classified;
}

const headBytes = 8192;

/**
 * What runs later on someone's machine without being asked for by name: hooks, tasks, workflows, settings of agents. And what
 * says who looks at changes, or what the next run may do.
 */
const executionBearing: readonly string[] = [
  '**/.git/**',
  '**/.gitmodules',
  '**/.gitattributes',
  '**/.gitconfig',
  '**/.{husky,githooks,lefthook}/**',
  '**/{lefthook,.lefthook}.{yml,yaml,toml,json}',
  '**/.pre-commit-{config,hooks}.yaml',
  '.github/{workflows,actions}/**',
  '.gitlab-ci.yml',
  '.gitlab/**',
  '.circleci/**',
  '.buildkite/**',
  '.drone.yml',
  '.travis.yml',
  'azure-pipelines*.yml',
  'bitbucket-pipelines.yml',
  '.woodpecker{.yml,/**}',
  '.forgejo/**',
  '.gitea/**',
  '.ci/**',
  '**/Jenkinsfile*',
  '**/{Makefile,makefile,GNUmakefile,*.mk,Justfile,justfile,Taskfile.yml,Rakefile,CMakeLists.txt,SConstruct,meson.build}',
  '**/{Dockerfile,Containerfile}*',
  '**/*.[Dd]ockerfile',
  '**/{docker-,}compose*.y{,a}ml',
  '.devcontainer/**',
  '**/devcontainer.json',
  '**/package.json',
  '**/binding.gyp',
  '**/.npmrc',
  '**/.pnpmfile.cjs',
  '**/.yarnrc{,.yml}',
  '**/.yarn/{plugins,releases}/**',
  '**/{setup.py,setup.cfg,conftest.py,noxfile.py,tox.ini,pyproject.toml,sitecustomize.py,usercustomize.py,*.pth}',
  '**/build.rs',
  '**/.cargo/config{,.toml}',
  '**/{build,settings}.gradle{,.kts}',
  '**/{gradlew,mvnw}{,.bat,.cmd}',
  '**/*.gemspec',
  '**/Gemfile',
  '**/{vite,vitest,jest,webpack,rollup,babel,eslint,prettier,postcss,next,nuxt,astro,svelte,playwright}.config.*',
  '**/.{eslintrc,prettierrc,babelrc}{,.*}',
  '**/flake.nix',
  '**/shell.nix',
  '**/.envrc',
  '**/.{bash,zsh,profile}*',
  '**/.{vscode,idea,zed,fleet}/**',
  '**/*.code-workspace',
  '**/.vim{rc,/**}',
  '**/.exrc',
  '**/.nvim.lua',
  '**/.editorconfig',
  '**/.{claude,codex,gemini,cursor,windsurf,aider,continue,roo,opencode,amp,goose}{,/**}',
  '**/.{cursorrules,windsurfrules,clinerules}',
  '**/.{mcp,aider.conf}.{json,yml}',
  '**/{AGENTS,CLAUDE,GEMINI,SKILL}.md',
  '.github/copilot-instructions.md',
  '**/.github/instructions/**',
  '**/*.{service,timer,desktop,plist}',
  '**/crontab',
  '**/{Vagrantfile,Tiltfile,Procfile}',
  '{,.github/,docs/}CODEOWNERS',
  '.glovebox/**',
];

const byName: readonly Names[] = [
  named('execution_bearing', executionBearing),
  named('secret_looking', secretGlobs),
  named('dependency', [
    '**/{package,composer,deno,jsr}.json',
    '**/{package-lock,npm-shrinkwrap}.json',
    '**/{yarn,deno,bun,composer,Cargo,poetry,uv,pdm,Gemfile,flake,mix,Podfile}.lock',
    '**/pnpm-{lock,workspace}.yaml',
    '**/bun.lockb',
    '**/{Cargo,pyproject}.toml',
    '**/{requirements,constraints}*.{txt,in}',
    '**/Pipfile{,.lock}',
    '**/setup.{py,cfg}',
    '**/go.{mod,sum,work}',
    '**/go.work.sum',
    '**/Gemfile',
    '**/*.gemspec',
    '**/pom.xml',
    '**/{build,settings}.gradle{,.kts}',
    '**/gradle/libs.versions.toml',
    '**/*.{csproj,fsproj,vbproj,nuspec}',
    '**/packages.lock.json',
    '**/mix.exs',
    '**/pubspec.{yaml,lock}',
    '**/environment.y{,a}ml',
    '**/conanfile.*',
    '**/vcpkg.json',
    '**/.gitmodules',
    '**/{vendor,third_party}/**',
    '**/Package.{swift,resolved}',
  ]),
  named('configuration', [
    '**/*.{yml,yaml,toml,ini,cfg,conf,properties,tf,tfvars,hcl,env}',
    '**/{tsconfig,jsconfig}*.json',
    '**/*.config.*',
    '**/.*rc{,.*}',
    '**/{config,.config,deploy,infra,k8s,helm,charts,terraform,ansible}/**',
    '**/.{editorconfig,gitignore,gitattributes,dockerignore,npmrc,env*,nvmrc,tool-versions}',
    '**/CODEOWNERS',
    '.github/**',
    '**/nginx*.conf',
  ]),
  named('test', [
    '**/{test,tests,__tests__,spec,specs,e2e,testdata,fixtures,__snapshots__,__mocks__}/**',
    '**/*.{test,spec}.*',
    '**/*_{test,spec}.*',
    '**/test_*.py',
    '**/*{Test,Tests,Spec,IT}.{java,kt,cs,scala,swift}',
    '**/conftest.py',
  ]),
  named('documentation', [
    '**/*.{md,mdx,rst,adoc,txt,tex,pod}',
    '**/{doc,docs,man}/**',
    '**/{README,CHANGELOG,CONTRIBUTING,LICENSE,LICENCE,COPYING,NOTICE,AUTHORS,SECURITY}{,.*}',
    '!**/{requirements,constraints}*.txt',
    '!**/CMakeLists.txt',
    '!**/{AGENTS,CLAUDE,GEMINI,SKILL}.md',
  ]),
  named('generated', [
    '**/{dist,build,out,target,node_modules,__pycache__,.next,.nuxt,coverage}/**',
    '**/*.min.{js,css}',
    '**/*.{map,pyc,snap}',
    '**/*.pb.{go,cc,h}',
    '**/*_pb2{,_grpc}.py',
    '**/*.{g,generated,gen}.*',
    '**/{package-lock,npm-shrinkwrap}.json',
    '**/*.lock',
    '**/*.lockb',
    '**/pnpm-lock.yaml',
    '**/go.sum',
  ]),
];

interface Names {
  readonly category: Category;
  matches(path: string): boolean;
}

/** Compiled when it is first asked: most of what loads this never takes a diff. */
function named(category: Category, globs: readonly string[]): Names {
  let list: GlobList | undefined;
  const matches = (path: string): boolean => {
    list ??= compileList(category, globs);
    return list.has(segmentsOf(path));
  };
  return { category, matches };
}

function* byContent(
  path: string,
  head: Buffer,
  change: Node & { kind: 'file' },
  before: Node | undefined,
): Generator<Category> {
  const text = head.toString('latin1');
  if (head.includes(0)) yield 'binary';
  if (secretIn(text) !== undefined) yield 'secret_looking';
  // A program that appears, or a file that becomes one, can be started by whatever looks for it.
  const wasProgram = before?.kind === 'file' && before.mode === 0o755;
  if (change.mode === 0o755 && !wasProgram) yield 'execution_bearing';
  if (/^\x7FELF|^MZ|^\xCA\xFE\xBA\xBE|^[\xCE\xCF]\xFA\xED\xFE/.test(text)) yield 'execution_bearing';
  const opening = text.slice(0, 1024);
  if (/@generated|DO NOT EDIT|[Cc]ode generated by|[Aa]uto-?generated/.test(opening) && !path.endsWith('.md'))
    yield 'generated';
}

export function statusOf(change: Change, before: Node | undefined): ClassifiedChange['status'] {
  if (change.kind === 'deleted') return 'deleted';
  if (before === undefined) return 'added';
  if (before.kind !== change.kind) return 'type_changed';
  const sameContent = before.kind === 'file' && change.kind === 'file' && before.digest === change.digest;
  return sameContent ? 'mode_changed' : 'modified';
}
