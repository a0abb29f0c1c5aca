from __future__ import annotations

from serving import Served, Shell


def test_metadata_goes_up_and_comes_out_as_a_table(shell: Shell, served: Served) -> None:
    shell.files(2)
    (shell.folder / "t.csv").write_bytes("\ufeffpath;x\r\n*;1\r\n".encode())
    up = shell.run("copy", "data/", "cavatica:demo/project/", "--metadata", "t.csv")
    assert up.returncode == 0, up.stderr
    out = shell.run("metadata", "cavatica:demo/project")
    assert out.stdout == "path,x\nfile-000,1\nfile-001,1\n"
    as_json = shell.run("metadata", "cavatica:demo/project", "--json")
    assert min(as_json.stdout.splitlines()) == '{"path": "file-000", "x": "1"}'
    template = shell.run("metadata", "cavatica:demo/project", "--template")
    assert template.stdout.splitlines()[1].startswith("#type,text")


def test_every_fault_is_a_line_and_the_exit_code_is_2(shell: Shell, served: Served) -> None:
    shell.files(1)
    (shell.folder / "t.csv").write_text(f"path,x\nfile-000,{'y' * 301}\nother,{'z' * 302}\n")
    for command in ("copy", "plan"):
        ended = shell.run(command, "data/", "cavatica:demo/project/", "--metadata", "t.csv")
        assert ended.returncode == 2
        lines = ended.stderr.splitlines()
        assert lines[-3].startswith("penstock: row 2, column 'x': a value has at most 300")
        assert lines[-2].startswith("penstock: row 3, column 'x'")
        assert lines[-1] == "penstock: t.csv has 2 faults; nothing was moved"
    assert not served.sim.files()
