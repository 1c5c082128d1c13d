"""The usual HTTP clients, and the ways in which each sends a picture to the address in $URL.

A command runs in a folder with photo.jpg, the same file as `face` and as base64 in image.txt, and request.json with
that base64. It prints each answer on a line.
"""

from __future__ import annotations

# Options of a command.
SHELL = {
    "curl": {
        "file": "-F file=@photo.jpg",
        "file without a suffix": "-F file=@face",
        "file of another type": "-F 'file=@photo.jpg;type=application/octet-stream'",
        "file of a wrong type": "-F 'file=@photo.jpg;type=text/html'",
        "file of an odd name": "-F 'file=@photo.jpg;filename=\"C:\\\\Fotos; 1\\\\笑顔 😀\"'",
        "file of an empty name": "-F 'file=@photo.jpg;filename='",
        "file without a name": "-F 'file=<photo.jpg'",
        "file from a pipe": "-F file=@- < photo.jpg",
        "file in chunks": "-F file=@photo.jpg -H 'Transfer-Encoding: chunked'",
        "file after 100-continue": "-F file=@photo.jpg -H 'Expect: 100-continue'",
        "file in HTTP/1.0": "-F file=@photo.jpg --http1.0",
        "file with an offer of HTTP/2": "-F file=@photo.jpg --http2",
        "file twice on one connection": '-F file=@photo.jpg "$URL" --next -sS -w "\\n" -F file=@photo.jpg',
        "body with its type": "--data-binary @photo.jpg -H 'Content-Type: image/jpeg'",
        "body with the default type": "--data-binary @photo.jpg",
        "body of any bytes": "--data-binary @photo.jpg -H 'Content-Type: application/octet-stream'",
        "body without a type": "--data-binary @photo.jpg -H Content-Type:",
        "body in chunks": "-X POST -T - < photo.jpg",
        "body in chunks after 100-continue": "-X POST -T - -H 'Expect: 100-continue' < photo.jpg",
        "JSON": "--json @request.json",
        "JSON with the default type": "-d @request.json",
        "JSON with a charset": "-d @request.json -H 'Content-Type: application/json; charset=utf-8'",
        "answer that may be compressed": "--compressed -F file=@photo.jpg",
    },
    "wget": {
        "body with its type": "--post-file=photo.jpg --header='Content-Type: image/jpeg'",
        "body with the default type": "--post-file=photo.jpg",
        "body by method": "--method=POST --body-file=photo.jpg",
        "JSON": "--post-file=request.json --header='Content-Type: application/json'",
        "JSON with the default type": '--post-data="$(cat request.json)"',
        "answer that may be compressed": "--post-file=photo.jpg --compression=auto",
    },
    "http": {
        "file": '--ignore-stdin --form POST "$URL" file@photo.jpg',
        "file with a type": "--ignore-stdin --form POST \"$URL\" 'file@photo.jpg;type=image/jpeg'",
        "file as multipart": '--ignore-stdin --multipart POST "$URL" file@photo.jpg',
        "file in chunks": '--ignore-stdin --chunked --form POST "$URL" file@photo.jpg',
        "body with its type": 'POST "$URL" Content-Type:image/jpeg < photo.jpg',
        "body with the default type": 'POST "$URL" < photo.jpg',
        "body by name": '--ignore-stdin POST "$URL" @photo.jpg',
        "body by a name without a suffix": '--ignore-stdin POST "$URL" @face',
        "JSON": '--ignore-stdin POST "$URL" image=@image.txt',
        "JSON from a pipe": 'POST "$URL" < request.json',
    },
}
COMMANDS = {
    "curl": "curl -sS -w '\\n' {} \"$URL\"",
    "wget": 'wget -qO- --content-on-error {} "$URL"',
    "http": "http {}",
}

# Expressions, each an answer or a list of answers.
PYTHON = {
    "requests": {
        "file": 'post(url, files={"file": open("photo.jpg", "rb")})',
        "bytes": 'post(url, files={"file": photo})',
        "file with name and type": 'post(url, files={"file": ("photo.jpg", photo, "image/jpeg")})',
        "file of another type": 'post(url, files={"file": ("photo", photo, "application/octet-stream")})',
        "file without a name": 'post(url, files={"file": (None, photo, "image/jpeg")})',
        "file of an odd name": 'post(url, files={"file": ("笑顔 😀.jpg", photo)})',
        "body from a file": 'post(url, data=open("photo.jpg", "rb"))',
        "body with its type": 'post(url, data=photo, headers={"Content-Type": "image/jpeg"})',
        "body in chunks": "post(url, data=chunks())",
        "JSON": 'post(url, json={"image": text})',
        "JSON with a data URL": 'post(url, json={"image": f"data:image/jpeg;base64,{text}"})',
        "JSON without a type": 'post(url, data=json.dumps({"image": text}))',
        "session": '[session.post(url, files={"file": photo}) for session in [requests.Session()] for _ in range(3)]',
    },
    "httpx": {
        "file": 'post(url, files={"file": open("photo.jpg", "rb")})',
        "bytes": 'post(url, files={"file": photo})',
        "file with name and type": 'post(url, files={"file": ("photo.jpg", photo, "image/jpeg")})',
        "file without name and type": 'post(url, files={"file": (None, photo)})',
        "body": "post(url, content=photo)",
        "body with its type": 'post(url, content=photo, headers={"Content-Type": "image/jpeg"})',
        "body in chunks": "post(url, content=chunks())",
        "JSON": 'post(url, json={"image": text})',
        "client": '[client.post(url, files={"file": photo}) for client in [httpx.Client()] for _ in range(3)]',
    },
    "urllib": {
        "body with the default type": "urlopen(url, photo)",
        "body with its type": 'urlopen(Request(url, photo, {"Content-Type": "image/jpeg"}))',
        "body from a file, in chunks": 'urlopen(Request(url, open("photo.jpg", "rb"), {"Content-Type": "image/jpeg"}))',
        "body in chunks": "urlopen(url, chunks())",
        "form": 'urlopen(Request(url, form, {"Content-Type": "multipart/form-data; boundary=cut"}))',
        "form with a quoted boundary": (
            'urlopen(Request(url, form, {"Content-Type": \'multipart/form-data; charset=utf-8; boundary="cut"\'}))'
        ),
        "JSON": 'urlopen(Request(url, open("request.json", "rb").read(), {"Content-Type": "application/json"}))',
        "JSON with the default type": 'urlopen(url, open("request.json", "rb").read())',
    },
    "aiohttp": {
        "file": 'post(data={"file": open("photo.jpg", "rb")})',
        "file with name and type": 'post(data=form("file", photo, filename="photo.jpg", content_type="image/jpeg"))',
        "file with a type": 'post(data=form("file", photo, content_type="image/jpeg"))',
        "file after 100-continue": 'post(data={"file": open("photo.jpg", "rb")}, expect100=True)',
        "body": "post(data=photo)",
        "body from a file": 'post(data=open("photo.jpg", "rb"))',
        "body in chunks": "post(data=chunks_later())",
        "JSON": 'post(json={"image": text})',
        "session": 'post(data={"file": photo}, times=3)',
    },
}
PYTHON_IMPORTS = {
    "requests": """
import requests
requests.Response.read = lambda answer: answer.content
from requests import post
""",
    "httpx": "import httpx\nfrom httpx import post",
    "urllib": "from urllib.request import Request, urlopen",
    "aiohttp": """
import aiohttp, asyncio
async def chunks_later():
    for chunk in chunks():
        yield chunk
def form(*arguments, **named):
    form = aiohttp.FormData()
    form.add_field(*arguments, **named)
    return form
def post(times=1, **options):
    async def read():
        async with aiohttp.ClientSession() as session:
            return [await (await session.post(url, **options)).text() for _ in range(times)]
    return asyncio.run(read())
""",
}
PYTHON_START = """
import base64, json, os
url, photo = os.environ["URL"], open("photo.jpg", "rb").read()
text = base64.b64encode(photo).decode()
head = b'--cut\\r\\nContent-Disposition: form-data; name="file"; filename="photo.jpg"\\r\\n\\r\\n'
form = head + photo + b"\\r\\n--cut--\\r\\n"
def chunks():
    for start in range(0, len(photo), 10_000):
        yield photo[start : start + 10_000]
"""
PYTHON_END = """
for answer in answers if isinstance(answers, list) else [answers]:
    print(answer if isinstance(answer, str) else answer.read().decode())
"""

# Expressions, each a promise of an answer.
NODE = {
    "fetch": {
        "file": 'send(form(await openAsBlob("photo.jpg"), "photo.jpg"))',
        "Blob": "send(form(new Blob([photo])))",
        "File with a type": 'send(form(new File([photo], "photo.jpg", { type: "image/jpeg" })))',
        "body": "send(photo)",
        "body with its type": 'send(new Blob([photo], { type: "image/jpeg" }))',
        "body in chunks": 'send(Readable.toWeb(createReadStream("photo.jpg")), { duplex: "half" })',
        "JSON": 'send(JSON.stringify({ image: text }), { headers: { "Content-Type": "application/json" } })',
        "JSON with the default type": "send(JSON.stringify({ image: text }))",
    },
    "axios": {
        "object with bytes": "axios.postForm(url, { file: photo })",
        "object with a stream": 'axios.postForm(url, { file: createReadStream("photo.jpg") })',
        "FormData": "axios.post(url, form(new Blob([photo])))",
        "form-data in chunks": "axios.post(url, streamedForm())",
        "body with the default type": "axios.post(url, photo)",
        "body with its type": 'axios.post(url, photo, { headers: { "Content-Type": "image/jpeg" } })',
        "body in chunks": 'axios.post(url, createReadStream("photo.jpg"))',
        "JSON": "axios.post(url, { image: text })",
    },
}
NODE_IMPORTS = {
    "fetch": "const send = (body, options) => fetch(url, { method: 'POST', body, ...options });",
    "axios": """
import axios from "axios";
import StreamedFormData from "form-data";
const streamedForm = () => {
  const form = new StreamedFormData();
  form.append("file", createReadStream("photo.jpg"));
  return form;
};
""",
}
NODE_START = """
import { createReadStream, openAsBlob, readFileSync } from "node:fs";
import { Readable } from "node:stream";
const url = process.env.URL;
const photo = readFileSync("photo.jpg");
const text = photo.toString("base64");
const form = (...file) => {
  const form = new FormData();
  form.append("file", ...file);
  return form;
};
"""
NODE_END = """
console.log(answer instanceof Response ? await answer.text() : JSON.stringify(answer.data));
"""


def shell_command(client: str, options: str) -> list[str]:
    """The command line of a client that is a command."""
    return ["bash", "-c", COMMANDS[client].format(options)]


def python_command(client: str, expression: str) -> list[str]:
    """The command line of a client that is a Python package."""
    return ["python", "-c", f"{PYTHON_START}{PYTHON_IMPORTS[client]}\nanswers = {expression}{PYTHON_END}"]


def node_command(client: str, expression: str) -> list[str]:
    """The command line of a client for Node."""
    program = f"{NODE_START}{NODE_IMPORTS[client]}\nconst answer = await {expression};{NODE_END}"
    return ["node", "--input-type=module", "-e", program]


# By client and way: the command.
WAYS = {
    (client, name): command(client, way)
    for clients, command in ((SHELL, shell_command), (PYTHON, python_command), (NODE, node_command))
    for client, ways in clients.items()
    for name, way in ways.items()
}
