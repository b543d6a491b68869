"""A source of images: the collection of a museum. The class only searches; wordsight downloads and checks what it finds."""

import os

import wordsight

API = os.environ.get("MUSEUM_API", "https://museum.example/api")


@wordsight.gathering.register_source
class Museum(wordsight.gathering.Source):
    """Images of our museum."""

    name = "museum"

    async def search(self, query, cursor, web):
        """Return one page of search results for a query."""
        answer = await web.get_json(API, {"q": query.text, "page": cursor or "1"})
        found = [
            wordsight.gathering.Candidate(
                url=item["image"], license="cc0", creator=item["maker"], page_url=item["page"]
            )
            for item in answer.content["items"]
        ]
        return wordsight.gathering.SearchPage(found, cursor=answer.content.get("next"))


if __name__ == "__main__":
    print(wordsight.gather("vase,coin", "data/museum", sources=["museum"], limit=50).kept)
