from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route


async def index(request):
    return JSONResponse({"path": request.url.path})


app = Starlette(routes=[Route("/", index), Route("/items/{number:int}", index)])
