"""A source of pictures: the collection of a museum. One class; what it finds is fetched, measured and judged by wordsight."""

import os

import wordsight

API = os.environ.get("MUSEUM_API", "https://museum.example/api")


@wordsight.gathering.register_source
class Museum(wordsight.gathering.Source):
    """Pictures of our museum."""

    name = "museum"

    async def search(self, query, cursor, web):
        """Return one page of what the museum has for the words of a query."""
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
